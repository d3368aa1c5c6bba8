//! Looks for programs that download packages in a command line.

use super::flags::{OwnFlag, is_registry_variable, own_flags};
use super::programs::{Family, Kind, downloads, is_code_flag, is_downloader, kind};
use super::word::Word;

/// How many command lines may be in each other.
const MAX_DEPTH: usize = 6;
/// How many commands of a line are looked at.
const MAX_COMMANDS: usize = 200;

/// How certain a finding is that a command line runs a downloader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Certainty {
    /// The downloader is the command, or a program that runs others has it.
    Runs,
    /// The downloader stands among the words of a program that may do anything with them.
    Named,
}

/// A program that downloads packages, in a command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Downloader {
    /// The downloader's name, without its folder.
    pub program: String,
    /// The settings that the downloader goes by.
    pub family: Family,
    /// How certain the finding is that the downloader is run.
    pub certainty: Certainty,
    /// Variables that the line sets for the downloader, and whether each has one value for all.
    sets: Vec<(String, bool)>,
    flags: Vec<OwnFlag>,
}

impl Downloader {
    /// The part of the line that says where its packages come from and differs between tenants: a flag, or a variable.
    pub fn open_registry(&self) -> Option<&str> {
        let is_open = |flag: &&OwnFlag| !flag.is_fixed && self.family.is_registry_flag(&flag.name);
        let flag = self.flags.iter().find(is_open);
        let flag = flag.map(|flag| flag.name.as_str());
        let set = || {
            let mut set = self.sets.iter();
            let found = set.find(|(name, is_fixed)| !is_fixed && is_registry_variable(name))?;
            Some(found.0.as_str())
        };
        flag.or_else(set)
    }

    /// Whether the line itself says what that variable would: it sets it, or has the flag in its place.
    pub fn says(&self, variable: &str) -> bool {
        let normal = |name: &str| name.to_ascii_lowercase().replace('-', "_");
        let variable = normal(variable);
        let is_set = self.sets.iter().any(|(name, _)| normal(name) == variable);
        is_set
            || self.flags.iter().any(|flag| {
                let flag = normal(flag.name.trim_start_matches('-'));
                let names: &[&str] = match flag.as_str() {
                    "registry" => &["registry"],
                    "userconfig" => &["userconfig"],
                    "i" | "index_url" | "default_index" => &["index_url", "default_index"],
                    _ => &[],
                };
                let of =
                    |prefix| Some(variable.strip_prefix(prefix)?.trim_start_matches("config_"));
                let rest = ["npm_", "pnpm_", "bun_", "uv_", "pip_"]
                    .iter()
                    .find_map(|it| of(*it));
                rest.is_some_and(|rest| names.contains(&rest))
            })
    }
}

/// The programs in a command line that download packages.
pub fn downloaders(program: &str, args: &[Word]) -> Vec<Downloader> {
    let words: Vec<_> = std::iter::once(Word::known(program))
        .chain(args.iter().cloned())
        .collect();
    let mut scan = Scan::default();
    scan.command(&words, Certainty::Runs, 0);
    scan.found
}

#[derive(Default)]
struct Scan {
    found: Vec<Downloader>,
    sets: Vec<(String, bool)>,
    commands: usize,
}

impl Scan {
    /// A command: the variables that are set for it, a program and its words.
    fn command(&mut self, words: &[Word], certainty: Certainty, depth: usize) {
        self.commands += 1;
        if depth > MAX_DEPTH || self.commands > MAX_COMMANDS {
            return;
        }
        let begin = words.iter().take_while(|word| self.sets(word)).count();
        let Some((program, rest)) = words[begin..].split_first() else {
            return;
        };
        let name = program.program();
        if let Some(found) = downloads(name, rest) {
            self.found.push(Downloader {
                program: found.program.to_owned(),
                family: found.family,
                certainty,
                sets: self.sets.clone(),
                flags: own_flags(&found),
            });
            if kind(name) != Some(Kind::Runner) {
                return;
            }
        }
        match kind(name) {
            Some(Kind::Elsewhere) => {}
            Some(Kind::Shell | Kind::Runner) => self.behind(rest, certainty, depth),
            Some(Kind::Feeder) => {
                let fed: Vec<_> = rest.iter().cloned().chain([Word::open()]).collect();
                self.behind(&fed, certainty, depth);
            }
            Some(Kind::Finder) => {
                let flags = ["-exec", "-execdir", "-ok", "-okdir"];
                for (at, _) in rest
                    .iter()
                    .enumerate()
                    .filter(|(_, it)| flags.contains(&it.text()))
                {
                    self.command(&rest[at + 1..], certainty, depth + 1);
                }
            }
            Some(Kind::Interpreter(_)) => {
                let is_code = |at: usize| at > 0 && is_code_flag(rest[at - 1].text());
                for (at, word) in rest.iter().enumerate() {
                    self.in_code(word, is_code(at), depth);
                }
                self.behind(rest, Certainty::Named, depth);
            }
            None => match name {
                "export" => {
                    let _count = rest.iter().filter(|word| self.sets(word)).count();
                }
                _ => {
                    for word in rest {
                        self.in_code(word, false, depth);
                    }
                    self.behind(rest, Certainty::Named, depth);
                }
            },
        }
    }

    /// A word that may be code, or hold a table of JSON: what it names in quotes, and of code whatever it names.
    fn in_code(&mut self, word: &Word, is_code: bool, depth: usize) {
        let tokens = word.tokens();
        let (words, are_quoted): (Vec<_>, Vec<_>) = tokens.into_iter().unzip();
        let begin = self.sets.len();
        for word in words.iter().filter(|_| is_code) {
            if is_registry_variable(word.text()) {
                self.sets.push((word.text().to_owned(), word.is_fixed()));
            }
        }
        for (at, token) in words.iter().enumerate() {
            if (is_code || are_quoted[at]) && is_downloader(token.program()) {
                self.command(&words[at..], Certainty::Named, depth + 1);
            }
        }
        self.sets.truncate(begin);
    }

    /// Words that may be a command line, or hold one.
    fn behind(&mut self, words: &[Word], certainty: Certainty, depth: usize) {
        for (at, word) in words.iter().enumerate() {
            if word.is_script() {
                // Of a flag and its value, the value.
                let value = match word.text().split_once('=') {
                    Some((flag, value)) if flag.starts_with('-') => word.part(value),
                    _ => word.clone(),
                };
                for command in value.commands() {
                    self.command(&command, certainty, depth + 1);
                }
                continue;
            }
            if certainty == Certainty::Runs && self.sets(word) {
                continue;
            }
            if kind(word.program()).is_some()
                || downloads(word.program(), &words[at + 1..]).is_some()
            {
                self.command(&words[at..], certainty, depth + 1);
                return;
            }
        }
    }

    /// Takes down the variable that a word sets, if it sets one.
    fn sets(&mut self, word: &Word) -> bool {
        let Some((name, _)) = word.text().split_once('=') else {
            return false;
        };
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if is_name {
            self.sets.push((name.to_owned(), word.is_fixed()));
        }
        is_name
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::template::Template;
    use super::*;

    fn words(args: &[&str]) -> Vec<Word> {
        let args = args
            .iter()
            .map(|text| Template::parse(text).expect("a template"));
        args.map(|template| Word::written(&template, false))
            .collect()
    }

    fn found(program: &str, args: &[&str]) -> Vec<Downloader> {
        downloaders(program, &words(args))
    }

    #[test]
    fn a_downloader_is_found_behind_what_runs_it() {
        for (program, args, name) in [
            ("npx", &["-y", "x"][..], "npx"),
            ("/usr/bin/npm", &["--silent", "exec", "x"], "npm"),
            ("npm", &["--prefix", "/x", "ci"], "npm"),
            ("sh", &["-c", "npx -y @corp/x"], "npx"),
            ("sh", &["-c", "cd /x && exec npx -y @corp/x"], "npx"),
            ("bash", &["-lc", "if true; then npx -y x; fi"], "npx"),
            ("bash", &["-c", "pip install x\npython -m x"], "pip"),
            ("sh", &["-c", "exec \"$@\"", "sh", "uvx", "x"], "uvx"),
            ("sh", &["-c", "x=$(npx -y y) other"], "npx"),
            ("/bin/sh", &["-c", "npx -y x --repo ${config.repo}"], "npx"),
            ("env", &["A=1", "npx", "-y", "x"], "npx"),
            ("env", &["-S", "A=1 uvx x"], "uvx"),
            ("timeout", &["30", "pnpm", "dlx", "x"], "pnpm"),
            ("nice", &["-n", "5", "sh", "-c", "bunx x"], "bunx"),
            ("su", &["-c", "npx x", "me"], "npx"),
            (
                "xvfb-run",
                &["-a", "env", "B=2", "yarn", "dlx", "x"],
                "yarn",
            ),
            ("python3", &["-m", "pip", "install", "x"], "pip"),
            ("python3.12", &["-m", "pipx", "run", "x"], "pipx"),
            ("deno", &["run", "-A", "npm:@corp/x"], "deno"),
            ("go", &["run", "corp.example/x@latest"], "go"),
            ("xargs", &["npx", "-y", "x"], "npx"),
            // The package comes from what it reads.
            ("xargs", &["-a", "/x", "npx"], "npx"),
            ("parallel", &["npx", "-y", ":::", "x"], "npx"),
            (
                "find",
                &["/x", "-name", "y", "-exec", "npx", "{}", ";"],
                "npx",
            ),
            ("find", &["/x", "-execdir", "sh", "-c", "uvx x", ";"], "uvx"),
            ("script", &["-qc", "npx -y x", "/dev/null"], "npx"),
            ("runuser", &["-u", "me", "--", "npx", "x"], "npx"),
            ("setpriv", &["--reuid=1", "npx", "x"], "npx"),
            ("chroot", &["/x", "/usr/bin/npx", "x"], "npx"),
            ("unshare", &["-r", "--", "npx", "x"], "npx"),
            ("nsenter", &["-t", "1", "-m", "npx", "x"], "npx"),
            ("flock", &["/x", "-c", "npx x"], "npx"),
            ("ionice", &["-c", "3", "npx", "x"], "npx"),
            ("chrt", &["-b", "0", "npx", "x"], "npx"),
            ("taskset", &["-c", "0", "npx", "x"], "npx"),
            ("time", &["npx", "x"], "npx"),
            ("strace", &["-f", "npx", "x"], "npx"),
            ("op", &["run", "--", "npx", "x"], "npx"),
        ] {
            let found = found(program, args);
            let is = |it: &Downloader| it.program == name && it.certainty == Certainty::Runs;
            assert!(found.iter().any(is), "{program} {args:?} {found:?}");
        }
        for (program, args) in [
            ("mcp-proxy", &["--", "npx", "-y", "x"][..]),
            ("node", &["gateway.js", "--stdio", "npx -y @corp/x"]),
            ("supergateway", &["--stdio=uvx x"]),
            (
                "python",
                &["-c", "import os; os.execvp('npx', ['npx', '-y', 'x'])"],
            ),
            (
                "python3.12",
                &["-Ic", "__import__('os').execvp('uvx',['uvx','x'])"],
            ),
            (
                "python3",
                &["-c", "run([sys.executable, '-m', 'pip', 'install', 'x'])"],
            ),
            (
                "node",
                &["-e", "require('child_process').spawn('npx',['-y','x'])"],
            ),
            (
                "node",
                &["--eval=require('child_process').execSync(`pnpm dlx x`)"],
            ),
            (
                "deno",
                &["eval", "new Deno.Command('/usr/bin/npx', {args: ['x']})"],
            ),
            ("perl", &["-e", "exec 'npx', '-y', 'x'"]),
            ("awk", &["BEGIN { system(\"npx -y x\") }"]),
            (
                "gateway",
                &[r#"--config={"command":"npx","args":["-y","x"]}"#],
            ),
            (
                "sh",
                &[
                    "-c",
                    "python3 -c \"import os; os.execvp('npx',['npx','x'])\"",
                ],
            ),
        ] {
            let found = found(program, args);
            let is = |it: &Downloader| it.certainty == Certainty::Named;
            assert!(found.iter().any(is), "{program} {args:?}");
        }
        for (program, args) in [
            ("node", &["x.js", "--runtime", "npx"][..]),
            ("npm", &["start"]),
            ("npm", &["run", "exec"]),
            ("sh", &["-c", "exec node x.js # npx y"]),
            ("sh", &["start.sh"]),
            ("python", &["-m", "server"]),
            ("deno", &["run", "main.ts"]),
            ("docker", &["run", "-i", "image", "npx", "-y", "x"]),
            ("cat", &["notes about npx"]),
            ("cat", &["it's npx x"]),
            ("find", &["/x", "-name", "npx", "-print"]),
            ("find", &["/x", "-exec", "cat", "{}", ";"]),
            ("python", &["-c", "print('no packages here')"]),
            ("python", &["-c", "go = 1; x = go.run"]),
        ] {
            assert_eq!(found(program, args), [], "{program} {args:?}");
        }
    }

    #[test]
    fn what_a_line_says_itself_and_what_is_open_in_it() {
        let one = |program: &str, args: &[&str]| found(program, args).remove(0);
        for (program, args, flag) in [
            ("npx", &["--registry=${config.r}", "x"][..], "--registry"),
            (
                "npx",
                &["-y", "--registry", "${config.r}", "x"],
                "--registry",
            ),
            (
                "npx",
                &["--registry", "https://${config.r}/", "x"],
                "--registry",
            ),
            (
                "npx",
                &["--@corp:registry=${config.r}", "x"],
                "--@corp:registry",
            ),
            (
                "npx",
                &["--userconfig", "${secret.r | file}", "x"],
                "--userconfig",
            ),
            (
                "npx",
                &["-p", "y", "--registry=${config.r}", "x"],
                "--registry",
            ),
            (
                "npm",
                &["exec", "x", "--registry=${config.r}", "--", "y"],
                "--registry",
            ),
            (
                "pnpm",
                &["--config.registry=${config.r}", "dlx", "x"],
                "--config.registry",
            ),
            (
                "pnpm",
                &["dlx", "--registry", "${config.r}", "x"],
                "--registry",
            ),
            (
                "yarn",
                &["dlx", "--registry", "${config.r}", "x"],
                "--registry",
            ),
            ("bunx", &["--registry=${config.r}", "x"], "--registry"),
            ("uvx", &["--index-url", "${config.r}", "x"], "--index-url"),
            ("uvx", &["-i", "${config.r}", "x"], "-i"),
            (
                "uvx",
                &["--from", "y", "--index=${config.r}", "x"],
                "--index",
            ),
            (
                "uvx",
                &["--extra-index-url=${config.r}", "x"],
                "--extra-index-url",
            ),
            (
                "uv",
                &["tool", "run", "--default-index", "${config.r}", "x"],
                "--default-index",
            ),
            (
                "uv",
                &["--config-file", "${config.r}", "run", "x"],
                "--config-file",
            ),
            ("uvx", &["-f", "${config.r}", "x"], "-f"),
            (
                "pipx",
                &["run", "--index-url", "${config.r}", "x"],
                "--index-url",
            ),
            (
                "pipx",
                &["run", "--pip-args", "-i ${config.r}", "x"],
                "--pip-args",
            ),
            ("pip", &["install", "x", "-i", "${config.r}"], "-i"),
            ("env", &["npx", "--registry=${config.r}", "x"], "--registry"),
            (
                "env",
                &["npm_config_registry=${config.r}", "npx", "x"],
                "npm_config_registry",
            ),
            ("sh", &["-c", "npx --registry ${config.r} x"], "--registry"),
            (
                "sh",
                &["-c", "npx --registry=\"${config.r}\" x"],
                "--registry",
            ),
        ] {
            let found = one(program, args);
            assert_eq!(
                found.open_registry(),
                Some(flag),
                "{program} {args:?} {found:?}"
            );
        }
        for (program, args) in [
            ("npx", &["-y", "x", "--registry=${config.r}"][..]),
            ("npx", &["-y", "x@${config.v}", "-i", "${config.r}"]),
            ("npx", &["--registry=https://r", "x", "${config.r}"]),
            ("npm", &["exec", "x", "--", "--registry=${config.r}"]),
            ("uvx", &["--from", "y", "x", "--index-url", "${config.r}"]),
            ("uvx", &["${config.package}", "--index", "${config.r}"]),
            ("pipx", &["run", "x", "-i", "${config.r}"]),
            ("npx", &["-i", "x", "${config.r}"]),
        ] {
            let found = one(program, args);
            assert_eq!(found.open_registry(), None, "{program} {args:?} {found:?}");
        }
        let code = "import os; os.environ['NPM_CONFIG_REGISTRY'] = 'https://r'; os.execvp('npx', ['npx', 'x'])";
        assert!(one("python", &["-c", code]).says("npm_config_registry"));
        let code = "spawn('npx', ['--registry=https://r', 'x'])";
        assert!(one("node", &["-e", code]).says("npm_config_registry"));
        let said = one("sh", &["-c", "NPM_CONFIG_REGISTRY=https://r npx -y x"]);
        assert!(said.says("npm_config_registry") && !said.says("npm_config_@a:registry"));
        assert!(one("npx", &["--registry", "https://r", "x"]).says("NPM_CONFIG_REGISTRY"));
        assert!(one("uvx", &["-i", "https://r", "x"]).says("UV_DEFAULT_INDEX"));
        assert!(!one("uvx", &["x", "-i", "https://r"]).says("UV_DEFAULT_INDEX"));
    }

    proptest! {
        #[test]
        fn no_words_make_it_panic(program in "(sh|env|npx|npm|uv|node|python|xargs|find|[a-z]{1,3})", args in prop::collection::vec("(-c|-exec|npx|x|--|[-a-z='\"\\\\ ;|&()$`#\\n/]{0,12})", 0..8)) {
            let words: Vec<_> = args.iter().map(|it| Word::known(it)).collect();
            for found in downloaders(&program, &words) {
                let _no_panic = (found.open_registry(), found.says("UV_INDEX"));
            }
        }
    }
}
