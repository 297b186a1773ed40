//! Arrays by name in NumPy's .npz files, which are ZIP archives of .npy files.

use std::fs::File;
use std::io::{self, Read, Write};

use flate2::read::DeflateDecoder;
use lumina_runtime::View;
use rawzip::path::{EntryPath, ZipFilePath};
use rawzip::{
    CompressionMethod, ErrorKind, FileReader, MAX_CENTRAL_DIRECTORY_RECORD_SIZE, ReaderAt,
    ZipArchive, ZipArchiveEntryWayfinder, ZipArchiveWriter, ZipLocator,
};

use crate::npy::{self, Array};

/// How an archive begins: with a file, or, where it has none, with the end of its directory.
pub(crate) const MAGICS: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];

/// An archive that is open.
pub(crate) struct Archive {
    zip: ZipArchive<Box<dyn ReaderAt>>,
    members: Vec<Member>,
}

struct Member {
    name: String,
    place: ZipArchiveEntryWayfinder,
    method: CompressionMethod,
}

impl Archive {
    /// The archive in a file, which is read as needed.
    pub(crate) fn of_file(file: File) -> Result<Self, String> {
        let length = file.metadata().map_err(|error| error.to_string())?.len();
        Self::new(Box::new(FileReader::from(file)), length)
    }

    /// The archive of these bytes.
    pub(crate) fn of_bytes(bytes: Vec<u8>) -> Result<Self, String> {
        let length = bytes.len() as u64;
        Self::new(Box::new(bytes), length)
    }

    fn new(bytes: Box<dyn ReaderAt>, length: u64) -> Result<Self, String> {
        let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
        let zip = ZipLocator::new()
            .locate_in_reader(bytes, &mut buffer, length)
            .map_err(|(_, error)| fault(&error))?;
        let mut members: Vec<Member> = Vec::new();
        let mut entries = zip.entries(&mut buffer);
        while let Some(entry) = entries.next_entry().map_err(|error| fault(&error))? {
            let name = String::from_utf8_lossy(entry.file_path().as_ref()).into_owned();
            // As in NumPy, arrays are called without the ending of their files.
            let Some(name) = name.strip_suffix(".npy") else { continue };
            if members.iter().any(|member| member.name == name) {
                return Err(format!("it has two arrays `{name}`"));
            }
            members.push(Member {
                name: name.into(),
                place: entry.wayfinder(),
                method: entry.compression_method(),
            });
        }
        Ok(Self { zip, members })
    }

    /// The names of its arrays.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.members.iter().map(|member| member.name.as_str()).collect()
    }

    /// The array of that name.
    pub(crate) fn read(&self, name: &str) -> Result<Array, String> {
        let member = self.members.iter().find(|member| member.name == name);
        let member = member.ok_or_else(|| self.lacks(name))?;
        let read = || {
            let entry = self.zip.get_entry(member.place).map_err(|error| fault(&error))?;
            let stored = entry.reader();
            match member.method {
                CompressionMethod::STORE => whole(&mut entry.verifying_reader(stored)),
                CompressionMethod::DEFLATE => {
                    whole(&mut entry.verifying_reader(DeflateDecoder::new(stored)))
                }
                method => Err(format!("it is compressed by {method:?}: save it by numpy.savez")),
            }
        };
        read().map_err(|message| format!("array `{name}`: {message}"))
    }

    /// That it has no array of that name.
    pub(crate) fn lacks(&self, name: &str) -> String {
        let names: Vec<String> = self.names().iter().map(|name| format!("`{name}`")).collect();
        let has = if names.is_empty() { "no array at all".into() } else { names.join(", ") };
        format!("it has no array `{name}`, but {has}")
    }
}

/// An array to the end of its file, where the checksum is compared.
fn whole(reader: &mut dyn Read) -> Result<Array, String> {
    // What the archive says of the length is not trusted.
    let array = Array::read(reader, None)?;
    io::copy(reader, &mut io::sink()).map_err(|error| error.to_string())?;
    Ok(array)
}

fn fault(error: &rawzip::Error) -> String {
    format!("it is no whole .npz file: {error}")
}

/// Writes an archive of tensors, uncompressed as by `numpy.savez`.
pub(crate) fn write<'a>(
    sink: &mut dyn Write,
    tensors: impl IntoIterator<Item = (&'a str, View<'a>)>,
) -> io::Result<()> {
    let mut zip = ZipArchiveWriter::new(sink);
    for (name, view) in tensors {
        let (mut entry, config) = zip.new_file(path(name)?).start().map_err(into_io)?;
        let mut data = config.wrap(&mut entry);
        npy::write(&mut data, &view)?;
        let (_, descriptor) = data.finish().map_err(into_io)?;
        entry.finish(descriptor).map_err(into_io)?;
    }
    zip.finish().map_err(into_io)?;
    Ok(())
}

/// The name of the file of an array, under which it is found again.
fn path(name: &str) -> io::Result<EntryPath<'static>> {
    let file = format!("{name}.npy");
    let is_kept = ZipFilePath::from_str(&file).as_ref() == file;
    match (file.contains('\0'), file.is_ascii(), is_kept) {
        (false, true, _) => Ok(EntryPath::verbatim(file.into_bytes())),
        // Says that the name is UTF-8, but takes paths like `../x` for others.
        (false, false, true) => Ok(EntryPath::conformant(file)),
        _ => {
            let text = format!("a .npz file takes no array `{name}`: give it a .npy file");
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

/// The error of the system where there is one, so that a closed pipe is known as such.
fn into_io(error: rawzip::Error) -> io::Error {
    match error.into_kind() {
        ErrorKind::IO(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use lumina_runtime::Tensor;

    use super::*;

    #[test]
    fn archives_that_are_cut_or_changed_are_read_as_they_were_or_refused() {
        let x = Tensor::new(&[3], &[1.0f32, 2.0, 3.0]).unwrap();
        let mut bytes = Vec::new();
        write(&mut bytes, [("x", x.view())]).unwrap();
        let read = |bytes: &[u8]| {
            let x = Archive::of_bytes(bytes.to_vec())?
                .read("x")?
                .tensor(lumina_runtime::DType::F32, true)?;
            Ok::<_, String>(x.view().data::<f32>().unwrap().to_vec())
        };
        assert_eq!(read(&bytes).unwrap(), [1.0, 2.0, 3.0]);
        for end in 0..bytes.len() {
            read(&bytes[..end]).unwrap_err();
        }
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[position] ^= 1 << bit;
                if let Ok(got) = read(&changed) {
                    assert_eq!(got, [1.0, 2.0, 3.0], "bit {bit} of byte {position}");
                }
            }
        }
    }

    #[test]
    fn names_are_found_again() {
        let x = Tensor::new(&[1], &[1u8]).unwrap();
        for name in ["x", "args[0]['image']", "ä ö", "a/b", "../x", "/x", "C:\\x", "x.npy", ""] {
            let mut bytes = Vec::new();
            write(&mut bytes, [(name, x.view())]).unwrap();
            assert_eq!(Archive::of_bytes(bytes).unwrap().names(), [name]);
        }
        for name in ["a\0b", "ä/../x", &"x".repeat(1 << 16)] {
            write(&mut Vec::new(), [(name, x.view())]).unwrap_err();
        }
    }
}
