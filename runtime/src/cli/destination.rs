//! Where outputs go, all at once or a piece after the other. A regular file is replaced whole or
//! not at all; a symbolic link stays, and its target is written; devices, pipes and standard output
//! are written to.

use std::fs::{self, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::files::{Identity, STANDARD_STREAM, follow, parent};
use crate::temporary::{Temporary, take_over};

/// A place for the bytes of an output.
pub(crate) struct Destination {
    /// As the user calls it.
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    Stdout,
    /// A device, a pipe, or a file that has no name any more.
    Stream,
    /// The file that links lead to, and what it is now.
    File {
        target: PathBuf,
        old: Option<Metadata>,
    },
}

/// What is written to a place.
pub(crate) struct Writer<'a> {
    /// As the user calls it.
    path: &'a Path,
    sink: Sink<'a>,
}

enum Sink<'a> {
    /// A file that is written, but not yet in its place.
    File {
        temporary: Temporary,
        target: &'a Path,
    },
    Stream(Box<dyn Write>),
    /// A stream whose reader has left, and has seen enough.
    Left,
}

impl Destination {
    /// What `path` leads to; refused where nothing can be written.
    pub(crate) fn new(path: &Path) -> Result<Self, String> {
        let kind = kind(path).map_err(|message| cannot_write(path, message))?;
        Ok(Self { path: path.to_owned(), kind })
    }

    /// Whether this is standard output.
    pub(crate) fn is_stdout(&self) -> bool {
        matches!(self.kind, Kind::Stdout)
    }

    /// What this leads to, where that can be told.
    pub(crate) fn identity(&self) -> Option<Identity> {
        match self.kind {
            Kind::Stdout => Identity::of_stdout(),
            _ => Identity::of(&self.path),
        }
    }

    /// The directory of the file that it leads to; None for what is no file.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match &self.kind {
            Kind::File { target, .. } => Some(parent(target)),
            _ => None,
        }
    }

    /// Begins to write. What is written of a file takes its place when it is committed.
    pub(crate) fn open(&self) -> Result<Writer<'_>, String> {
        let path = self.path.as_path();
        let open = || -> io::Result<Sink<'_>> {
            Ok(match &self.kind {
                Kind::Stdout => Sink::Stream(Box::new(io::stdout().lock())),
                Kind::Stream => {
                    let stream = File::options().write(true).truncate(true).open(path)?;
                    Sink::Stream(Box::new(stream))
                }
                Kind::File { target, old } => {
                    let temporary = Temporary::new(parent(target))?;
                    if let Some(old) = old {
                        take_over(temporary.file(), old)?;
                    }
                    Sink::File { temporary, target }
                }
            })
        };
        let sink = open().map_err(|error| cannot_write(path, error))?;
        Ok(Writer { path, sink })
    }
}

impl Writer<'_> {
    /// Writes what `encode` writes, behind what is there.
    pub(crate) fn write(
        &mut self,
        encode: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), String> {
        let mut file;
        let sink: &mut dyn Write = match &mut self.sink {
            Sink::File { temporary, .. } => {
                file = temporary.file();
                &mut file
            }
            Sink::Stream(stream) => stream,
            Sink::Left => return Ok(()),
        };
        let mut sink = BufWriter::new(sink);
        let result = encode(&mut sink).and_then(|()| sink.flush());
        // What a fault left in it is not tried again.
        drop(sink.into_parts());
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.sink = Sink::Left;
                Ok(())
            }
            result => result.map_err(|error| cannot_write(self.path, error)),
        }
    }

    /// Whether nobody reads what is written.
    pub(crate) fn is_left(&self) -> bool {
        matches!(self.sink, Sink::Left)
    }

    /// Brings a file to the disk.
    pub(crate) fn sync(&self) -> Result<(), String> {
        match &self.sink {
            Sink::File { temporary, .. } => {
                temporary.file().sync_all().map_err(|error| cannot_write(self.path, error))
            }
            _ => Ok(()),
        }
    }

    /// Puts a file into its place.
    pub(crate) fn commit(self) -> Result<(), String> {
        match self.sink {
            Sink::File { temporary, target } => {
                temporary.rename(target).map_err(|error| cannot_write(self.path, error))
            }
            _ => Ok(()),
        }
    }
}

fn kind(path: &Path) -> Result<Kind, String> {
    if path == Path::new(STANDARD_STREAM) {
        return Ok(Kind::Stdout);
    }
    let found = match fs::metadata(path) {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.to_string()),
    };
    let Some(old) = found else {
        let target = follow(path).map_err(|error| error.to_string())?;
        if target.file_name().is_none() {
            return Err("it has no file name".into());
        }
        let folder = parent(&target);
        if !folder.is_dir() {
            return Err(format!("there is no directory `{}`: make it", folder.display()));
        }
        return Ok(Kind::File { target, old: None });
    };
    if old.is_dir() {
        return Err("it is a directory: add a file name".into());
    }
    let identity = Identity::of(path);
    if !is_device(&old) && identity.is_some() && identity == Identity::of_stdout() {
        // Such as /dev/stdout. Opened by its name, a file would lose what is in it.
        return Ok(Kind::Stdout);
    }
    if !old.is_file() {
        return Ok(Kind::Stream);
    }
    // A link in /proc may lead to a file that has no name any more, and tells one all the same.
    let target = follow(path).map_err(|error| error.to_string())?;
    if Identity::of(&target) != identity {
        return Ok(Kind::Stream);
    }
    Ok(Kind::File { target, old: Some(old) })
}

/// Whether it is a device such as /dev/null or a terminal, to which nothing is lost.
#[cfg(unix)]
fn is_device(metadata: &Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_char_device(&metadata.file_type())
}

#[cfg(not(unix))]
fn is_device(_: &Metadata) -> bool {
    false
}

fn cannot_write(path: &Path, reason: impl std::fmt::Display) -> String {
    format!("cannot write `{}`: {reason}", path.display())
}
