//! Temporary files, which nothing leaves behind but what cannot be caught.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

use crate::files::parent;

/// The temporary files that there are, for those who remove them.
static PENDING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A file with a random name of its own, which is removed when this is dropped, or a signal ends
/// the program.
pub(crate) struct Temporary(NamedTempFile);

impl Temporary {
    /// A new file in `folder`, with the mode that the umask says.
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        signals::watch()?;
        // Held meanwhile, so that no signal comes between the file and its entry.
        let mut pending = pending();
        let mut builder = tempfile::Builder::new();
        // A name of its own length: that of the target may be as long as names can be.
        builder.prefix(".lumina-").suffix(".tmp").rand_bytes(12);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder)?;
        pending.push(file.path().to_owned());
        Ok(Self(file))
    }

    pub(crate) fn file(&self) -> &File {
        self.0.as_file()
    }

    /// Puts the file in the place of `target`.
    pub(crate) fn rename(self, target: &Path) -> io::Result<()> {
        self.0.persist(target).map_err(|error| error.error)?;
        // Makes the name durable, too. A system that cannot has renamed the file all the same.
        let _ = File::open(parent(target)).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

/// Gives a new file the owner and the mode of an old one.
pub(crate) fn take_over(new: &File, old: &Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, fchown};
        let found = new.metadata()?;
        if (found.uid(), found.gid()) != (old.uid(), old.gid()) {
            // To give a file away is a privilege; without it the file is ours.
            let _ = fchown(new, Some(old.uid()), Some(old.gid()));
        }
    }
    new.set_permissions(old.permissions())
}

fn pending() -> MutexGuard<'static, Vec<PathBuf>> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(unix)]
mod signals {
    use std::fs;
    use std::io;
    use std::sync::OnceLock;
    use std::thread;

    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    use super::pending;

    /// Has temporary files removed where a signal ends the program, which then ends as it would.
    pub(super) fn watch() -> io::Result<()> {
        static WATCHED: OnceLock<()> = OnceLock::new();
        if WATCHED.set(()).is_err() {
            return Ok(());
        }
        let ignored = ignored();
        let deadly = [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|n| ignored >> (n - 1) & 1 == 0);
        let mut signals = Signals::new(deadly)?;
        thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                // Kept to the end, so that no file comes after.
                let pending = pending();
                for path in pending.iter() {
                    // It may be in its place already.
                    let _ = fs::remove_file(path);
                }
                let _ = emulate_default_handler(signal);
            }
        })?;
        Ok(())
    }

    /// The signals that the program was started to ignore, as by nohup: bit n - 1 is signal n. To
    /// catch one would make it deadly. None where the system does not tell in /proc.
    fn ignored() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
    }
}

#[cfg(not(unix))]
mod signals {
    /// There are no such signals.
    pub(super) fn watch() -> std::io::Result<()> {
        Ok(())
    }
}
