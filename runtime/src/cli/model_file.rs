//! The file of a model, which is read or mapped.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use lumina_runtime::{Checksums, Error, Model};
use memmap2::Mmap;

use crate::Failure;

#[derive(clap::Args)]
pub(crate) struct ModelFile {
    /// The .lmn file
    #[arg(value_name = "MODEL")]
    pub(crate) path: PathBuf,
    /// Use the file in the memory where the system keeps it, without a copy
    ///
    /// Nothing may change the file or make it shorter until the program ends: of a file that
    /// changes, the outputs are of no use, and one that gets shorter ends the program by the signal
    /// SIGBUS.
    #[arg(long)]
    mmap: bool,
    /// With --mmap, leave out the checksum of the weights, for which all of them are read
    #[arg(long, requires = "mmap")]
    skip_checksum: bool,
}

impl ModelFile {
    pub(crate) fn load(&self) -> Result<Model, Failure> {
        if !self.mmap {
            return Model::load(&self.path).map_err(Failure::of(&self.path));
        }
        let map = self.map().map_err(|source| {
            Failure::of(&self.path)(Error::Read { path: self.path.clone(), source })
        })?;
        let checksums = if self.skip_checksum { Checksums::AllButWeights } else { Checksums::All };
        Model::in_place(map, checksums).map_err(Failure::of(&self.path))
    }

    fn map(&self) -> io::Result<Mmap> {
        let file = File::open(&self.path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file, so leave --mmap out"));
        }
        // SAFETY: the bytes must stay the same while they are borrowed, which is until the program
        // ends. No system promises that of a file, so it is not done unless the user says so: that
        // is what --mmap means, and its help says it.
        unsafe { Mmap::map(&file) }
    }
}
