//! What can go wrong, said so that the reader can mend it: which argument, which value, what was expected.

use std::fmt;
use std::path::PathBuf;

/// The result of every fallible call in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that a call can refuse or fail at.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// An argument is outside of what the call takes.
    Argument {
        /// The argument's name as the documentation and the C header spell it.
        name: &'static str,
        /// The value that came.
        value: String,
        /// What would have been taken.
        expected: String,
    },
    /// An ISA was asked for that this build or this machine lacks.
    Isa {
        /// The name that was asked for.
        asked: String,
        /// The names that can be had here, best last.
        available: String,
    },
    /// The operating system refused to read or write.
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done: "read", "create", ...
        doing: &'static str,
        /// The system's own words.
        source: std::io::Error,
    },
    /// A file or buffer is not what it should be: foreign, truncated, damaged or of an unknown version.
    Format {
        /// The file, or a word for the buffer.
        what: String,
        /// What is wrong with it, and what was expected.
        problem: String,
    },
    /// Training met a loss, gradients, parameters or running averages that are not finite.
    Diverged {
        /// The epoch, from 1.
        epoch: usize,
        /// The step in the epoch, from 1.
        step: usize,
        /// The loss of the step, which may be finite where parameters are not.
        loss: f32,
        /// The first layer whose output was not finite; if all were, the one with a gradient, parameter or average that is
        /// not, and which of them; or "the loss".
        layer: String,
    },
    /// A thread pool could not be started.
    Threads {
        /// The system's own words.
        problem: String,
    },
}

impl Error {
    /// An [`Error::Argument`].
    pub fn argument(
        name: &'static str,
        value: impl fmt::Display,
        expected: impl fmt::Display,
    ) -> Self {
        Error::Argument {
            name,
            value: value.to_string(),
            expected: expected.to_string(),
        }
    }

    /// An [`Error::Argument`] for a name that is none of `known`, with the nearest of them suggested if one is near.
    pub fn unknown(name: &'static str, value: &str, known: &[&str]) -> Self {
        let near = known.iter().min_by_key(|k| distance(value, k));
        let near = near.filter(|k| distance(value, k) <= value.len().max(4) / 2);
        let expected = match near {
            Some(near) => format!("{}; did you mean {near}?", known.join(", ")),
            None => known.join(", "),
        };
        Error::argument(name, format_args!("'{value}'"), expected)
    }

    /// An [`Error::Format`].
    pub fn format(what: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Error::Format {
            what: what.to_string(),
            problem: problem.to_string(),
        }
    }

    /// An [`Error::Io`].
    pub fn io(path: impl Into<PathBuf>, doing: &'static str, source: std::io::Error) -> Self {
        Error::Io {
            path: path.into(),
            doing,
            source,
        }
    }
}

/// How many characters must be put in, left out or changed to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = changed.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Argument {
                name,
                value,
                expected,
            } => write!(f, "{name} is {value}; expected {expected}"),
            Error::Isa { asked, available } => write!(
                f,
                "the ISA '{asked}' cannot be used here; available: {available}"
            ),
            Error::Io {
                path,
                doing,
                source,
            } => write!(f, "cannot {doing} {}: {source}", path.display()),
            Error::Format { what, problem } => write!(f, "{what}: {problem}"),
            Error::Diverged {
                epoch,
                step,
                loss,
                layer,
            } => write!(
                f,
                "the loss is {loss} at epoch {epoch}, step {step}; the first numbers that are not finite come from \
                 {layer}; a smaller learning rate may help"
            ),
            Error::Threads { problem } => write!(f, "cannot start the thread pool: {problem}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_told_with_the_nearest_known_one() {
        let said = |value| Error::unknown("rule", value, &["bcgd", "binary-connect"]).to_string();
        assert_eq!(
            said("bcdg"),
            "rule is 'bcdg'; expected bcgd, binary-connect; did you mean bcgd?"
        );
        assert!(said("binaryconnect").ends_with("did you mean binary-connect?"));
        assert_eq!(
            said("momentum"),
            "rule is 'momentum'; expected bcgd, binary-connect"
        );
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!([distance("", "abc"), distance("abc", "")], [3, 3]);
    }
}
