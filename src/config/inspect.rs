//! All that is said of one pool.toml: the mistakes in it, and the config it makes in spite of them.

use std::path::{Path, PathBuf};

use super::lines::Lines;
use super::mistake::{ConfigErrors, Mistake, Mistakes};
use super::model::Config;
use super::whole::read_whole;

/// A pool.toml that was read, with or without mistakes.
#[derive(Debug)]
pub struct Inspection {
    /// The file, as it was named.
    file: String,
    text: String,
    mistakes: Vec<Mistake>,
    /// The config, with defaults in place of what is wrong; `None` for what is no TOML.
    config: Option<Config>,
}

impl Inspection {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of_file(path: &Path) -> Result<Self, ConfigErrors> {
        let unreadable = |source| ConfigErrors::Unreadable {
            path: path.to_owned(),
            source,
        };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let absolute = std::path::absolute(path).map_err(unreadable)?;
        let base_dir = absolute
            .parent()
            .map_or_else(|| PathBuf::from("/"), Path::to_owned);
        Ok(Self::of_text(text, &path.display().to_string(), &base_dir))
    }

    /// Reads the text of a pool.toml that is called `file` and whose relative paths start at `base_dir`.
    pub fn of_text(text: String, file: &str, base_dir: &Path) -> Self {
        let (config, mistakes) = read_whole(&text, base_dir);
        Self {
            file: file.to_owned(),
            text,
            mistakes,
            config,
        }
    }

    /// The file, as it was named.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// What the file says, as far as it says it: with defaults in place of what is wrong. `None` for what is no TOML. Only to
    /// be looked at: nothing is to be started from it while there are mistakes.
    pub fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    /// All mistakes of the file; `None` if there are none.
    pub fn mistakes(&self) -> Option<Mistakes> {
        (!self.mistakes.is_empty()).then(|| Mistakes {
            file: self.file.clone(),
            mistakes: self.mistakes.clone(),
        })
    }

    /// On which lines its keys stand.
    pub fn lines(&self) -> Lines<'_> {
        Lines::of(&self.text)
    }

    /// Whether no mistake is in the values to which those keys lead, as far as they are written.
    pub fn is_right<K: AsRef<str>>(&self, lines: &Lines<'_>, paths: &[Vec<K>]) -> bool {
        let ranges = paths.iter().filter_map(|path| lines.range(path));
        let mut mistakes = self.mistakes.iter();
        let ranges: Vec<_> = ranges.collect();
        !mistakes.any(|mistake| {
            let is_in = |(first, last): &(usize, usize)| (*first..=*last).contains(&mistake.line);
            ranges.iter().any(is_in)
        })
    }

    /// The config, if there are no mistakes.
    ///
    /// # Errors
    /// All mistakes.
    pub fn verdict(self) -> Result<Config, Mistakes> {
        match (self.mistakes(), self.config) {
            (None, Some(config)) => Ok(config),
            (mistakes, _) => Err(mistakes.unwrap_or(Mistakes {
                file: self.file,
                mistakes: vec![],
            })),
        }
    }
}
