//! Writing a file whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// Writes `bytes` to `path`, whole or not at all: into a temporary file beside it, then renamed.
///
/// A symbolic link stays one: the file that it leads to is written so, which need not exist yet. What is no regular
/// file, a pipe or a device, stays what it is and takes the bytes as they come.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    if path.file_name().is_none() {
        return Err(Error::argument(
            "path",
            path.display(),
            "the name of a file",
        ));
    }
    write(path, bytes).map_err(|e| Error::io(path, "write", e))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match std::fs::metadata(path) {
        // A folder is refused by the system.
        Ok(there) if !there.is_file() => {
            OpenOptions::new().write(true).open(path)?.write_all(bytes)
        }
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => replace(&followed(path)?, bytes),
    }
}

/// Symbolic links one after the other, at most: as many as Linux follows.
const LINKS: usize = 40;

/// Where the symbolic links from `path` end, whether anything is there or not.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..=LINKS {
        // What is not there is no link either.
        let Ok(link) = std::fs::read_link(&path) else {
            return Ok(path);
        };
        // From the link's own folder, unless it is absolute.
        path = path.with_file_name(link);
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

/// Puts a file of these bytes in the place of `path`, which is no link.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Of this call alone: threads may write the same file at once.
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let mut temporary = path.file_name().unwrap_or_default().to_os_string();
    temporary.push(format!(".{}-{call}.tmp", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        // The error that matters is the first; that the temporary file may be left is not news.
        let _ = std::fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_written_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        // Threads that write the same file leave that of one of them.
        let long = |byte: u8| vec![byte; 1 << 20];
        std::thread::scope(|scope| {
            for byte in 0..4 {
                let path = &path;
                scope.spawn(move || (0..8).for_each(|_| write_whole(path, &long(byte)).unwrap()));
            }
        });
        let left = std::fs::read(&path).unwrap();
        assert!((0..4).any(|byte| left == long(byte)));
        // A folder in the way: no temporary file stays.
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        let said = write_whole(&dir.path().join("folder"), b"x").unwrap_err();
        assert!(said.to_string().starts_with("cannot write "), "{said}");
        assert_eq!(names(dir.path()), ["file", "folder"]);
        assert!(write_whole(&dir.path().join("file/below"), b"x").is_err());
        let said = write_whole(&dir.path().join(".."), b"x").unwrap_err();
        assert!(said.to_string().contains("the name of a file"), "{said}");
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_and_their_targets_are_written() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("there")).unwrap();
        std::fs::write(at("there/old"), b"old").unwrap();
        // Relative and absolute, one over another link, one to a file that does not exist yet.
        symlink("there/old", at("to-old")).unwrap();
        symlink(at("to-old"), at("to-link")).unwrap();
        symlink("there/new", at("to-new")).unwrap();
        symlink("there", at("to-folder")).unwrap();
        let cases = [
            ("to-old", "there/old"),
            ("to-link", "there/old"),
            ("to-new", "there/new"),
            ("to-folder/newer", "there/newer"),
        ];
        for (path, target) in cases {
            write_whole(&at(path), path.as_bytes()).unwrap();
            assert_eq!(std::fs::read(at(target)).unwrap(), path.as_bytes());
        }
        for link in ["to-old", "to-link", "to-new"] {
            assert!(at(link).is_symlink(), "{link}");
        }
        assert_eq!(names(&at("there")), ["new", "newer", "old"]);

        symlink("round", at("round")).unwrap();
        symlink("nowhere/file", at("to-nowhere")).unwrap();
        for name in ["round", "to-nowhere", "to-folder"] {
            let said = write_whole(&at(name), b"x").unwrap_err().to_string();
            assert!(said.starts_with("cannot write "), "{said}");
            assert!(at(name).is_symlink(), "{name}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn pipes_and_devices_take_the_bytes_and_stay() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        std::thread::scope(|scope| {
            let read = scope.spawn(|| std::fs::read(&pipe).unwrap());
            write_whole(&pipe, b"through").unwrap();
            assert_eq!(read.join().unwrap(), b"through");
        });
        let (null, full) = (dir.path().join("null"), dir.path().join("full"));
        symlink("/dev/null", &null).unwrap();
        symlink("/dev/full", &full).unwrap();
        write_whole(&null, b"x").unwrap();
        write_whole(Path::new("/dev/null"), b"x").unwrap();
        let said = write_whole(&full, b"x").unwrap_err().to_string();
        assert!(said.contains("No space left"), "{said}");
        for device in ["/dev/null", "/dev/full"] {
            let kind = std::fs::symlink_metadata(device).unwrap().file_type();
            assert!(kind.is_char_device(), "{device}");
        }
        assert!(std::fs::metadata(&pipe).unwrap().file_type().is_fifo());
        assert_eq!(names(dir.path()), ["full", "null", "pipe"]);
    }
}
