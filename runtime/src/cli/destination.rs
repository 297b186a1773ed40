//! Where outputs go. A regular file is replaced whole or not at all; a symbolic link stays, and its
//! target is written; devices, pipes and standard output are written to.

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

/// A file that is written, but not yet in its place.
pub(crate) struct Staged<'a> {
    temporary: Temporary,
    target: &'a Path,
    path: &'a Path,
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

    /// Writes the bytes of a file, which takes its place when it is committed. None for what is no
    /// file, to which there is only `send`.
    pub(crate) fn stage(
        &self,
        encode: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Option<Staged<'_>>, String> {
        let Kind::File { target, old } = &self.kind else { return Ok(None) };
        let write = || {
            let temporary = Temporary::new(parent(target))?;
            if let Some(old) = old {
                take_over(temporary.file(), old)?;
            }
            let mut sink = BufWriter::new(temporary.file());
            encode(&mut sink)?;
            sink.flush()?;
            drop(sink);
            temporary.file().sync_all()?;
            Ok(temporary)
        };
        let temporary = write().map_err(|error: io::Error| cannot_write(&self.path, error))?;
        Ok(Some(Staged { temporary, target, path: &self.path }))
    }

    /// Writes the bytes to what is no file. A reader that leaves has seen enough.
    pub(crate) fn send(
        &self,
        encode: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), String> {
        let write = |sink: &mut dyn Write| {
            let mut sink = BufWriter::new(sink);
            encode(&mut sink)?;
            sink.flush()
        };
        let result = match self.kind {
            Kind::Stdout => write(&mut io::stdout().lock()),
            Kind::Stream => File::options()
                .write(true)
                .truncate(true)
                .open(&self.path)
                .and_then(|mut stream| write(&mut stream)),
            Kind::File { .. } => Ok(()),
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(|error| cannot_write(&self.path, error)),
        }
    }
}

impl Staged<'_> {
    /// Puts the file into its place.
    pub(crate) fn commit(self) -> Result<(), String> {
        self.temporary.rename(self.target).map_err(|error| cannot_write(self.path, error))
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
