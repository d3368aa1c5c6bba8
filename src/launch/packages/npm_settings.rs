//! What npm is set to, as far as installs go by it.

use super::command_error::CommandError;
use super::helper::Helper;

/// The setting of dependencies that are repositories of git.
const GIT: &str = "allow-git";
/// The settings that are asked for.
const ASKED: [&str; 4] = [
    GIT,
    "ignore-scripts",
    "allow-scripts",
    "dangerously-allow-all-scripts",
];

/// What npm's own settings say of dependencies from git.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum GitSetting {
    /// npm refuses them anyway.
    Refused,
    /// npm takes some or all, and can be told not to.
    Taken,
    /// npm has no such setting, and takes all; or what stands for npm does not say.
    Unknown,
}

/// What npm has printed of its settings, one in a line. Version managers may have printed lines of their own.
#[derive(Debug)]
pub(super) struct NpmSettings(String);

impl NpmSettings {
    /// Asks npm, once for all settings, since each question takes a start of it.
    ///
    /// # Errors
    /// When npm fails.
    pub(super) async fn ask(helper: &Helper<'_>) -> Result<Self, CommandError> {
        let asked: Vec<&str> = ["config", "get"].into_iter().chain(ASKED).collect();
        Ok(Self(helper.run("npm", &asked).await?))
    }

    fn get(&self, name: &str) -> &str {
        let mut lines = self.0.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().trim()
    }

    /// What is said of dependencies from git.
    pub(super) fn git(&self) -> GitSetting {
        match self.get(GIT) {
            "none" => GitSetting::Refused,
            "all" | "root" => GitSetting::Taken,
            _ => GitSetting::Unknown,
        }
    }

    /// Whether no install script is to run.
    pub(super) fn ignores_scripts(&self) -> bool {
        self.get("ignore-scripts") == "true"
    }

    /// Whether all install scripts are to run, of an npm that runs allowed ones.
    pub(super) fn allows_all_scripts(&self) -> bool {
        self.get("dangerously-allow-all-scripts") == "true"
    }

    /// Packages whose install scripts are allowed, divided by commas; empty for none.
    pub(super) fn allowed_scripts(&self) -> &str {
        self.get("allow-scripts")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_npm_does_not_say_of_git_is_none_that_it_refuses() {
        for (said, setting) in [
            (
                "allow-git=none\nignore-scripts=false\n",
                GitSetting::Refused,
            ),
            ("allow-git=all\n", GitSetting::Taken),
            (
                "Now using node v22.1.0 (npm v11.12.0)\nallow-git=root\n",
                GitSetting::Taken,
            ),
            ("allow-git=undefined\n", GitSetting::Unknown),
            ("undefined\n", GitSetting::Unknown),
            ("", GitSetting::Unknown),
        ] {
            assert_eq!(NpmSettings(said.to_owned()).git(), setting, "{said}");
        }
    }

    #[test]
    fn settings_of_scripts_are_told_apart_by_their_names() {
        let said = "allow-git=all\nignore-scripts=false\nallow-scripts=a,b\ndangerously-allow-all-scripts=true\n";
        let settings = NpmSettings(said.to_owned());
        assert_eq!(settings.allowed_scripts(), "a,b");
        assert!(!settings.ignores_scripts() && settings.allows_all_scripts());
    }
}
