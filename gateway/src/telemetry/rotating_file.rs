//! A file of lines that is rotated by size, and reopened if another program moved it away.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::lines::Sink;

/// A file that is rotated by size. `NAME.1` is the newest rotated file.
pub(super) struct RotatingFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    kept_max: u32,
}

impl RotatingFile {
    /// # Errors
    /// The file or its folder cannot be created.
    pub(super) fn open(path: &Path, bytes_max: u64, kept_max: u32) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, bytes, bytes_max, kept_max })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..self.kept_max).rev() {
            match std::fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match std::fs::rename(&self.path, numbered(1)) {
            // Another program moved it away.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        *self = Self::open(&self.path, self.bytes_max, self.kept_max)?;
        Ok(())
    }
}

impl Sink for RotatingFile {
    fn reopen(&mut self) -> io::Result<()> {
        *self = Self::open(&self.path, self.bytes_max, self.kept_max)?;
        Ok(())
    }
}

impl Write for RotatingFile {
    /// Receives whole lines from its one writer.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if self.bytes > 0 && self.bytes + lines.len() as u64 > self.bytes_max {
            self.rotate()?;
        }
        self.file.write_all(lines)?;
        self.bytes += lines.len() as u64;
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_is_rotated_and_a_fixed_number_is_kept() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("logs/access.log");
        let mut file = RotatingFile::open(&path, 20, 2)?;
        for number in 0..8 {
            file.write_all(format!("line {number}..\n").as_bytes())?;
        }
        let read = |name: &str| std::fs::read_to_string(dir.path().join("logs").join(name));
        assert_eq!(read("access.log")?, "line 6..\nline 7..\n");
        assert_eq!(read("access.log.1")?, "line 4..\nline 5..\n");
        assert_eq!(read("access.log.2")?, "line 2..\nline 3..\n");
        assert!(read("access.log.3").is_err());
        // Another program moves it away.
        std::fs::rename(&path, dir.path().join("logs/taken"))?;
        file.reopen()?;
        file.write_all(b"line 8..\n")?;
        assert_eq!((read("taken")?, read("access.log")?), ("line 6..\nline 7..\n".to_owned(), "line 8..\n".to_owned()));
        Ok(())
    }
}
