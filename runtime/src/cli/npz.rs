//! Arrays by name in NumPy's .npz files, which are ZIP archives of .npy files.

use std::fs::File;
use std::io::{self, Read, Write};

use flate2::read::DeflateDecoder;
use rawzip::path::{EntryPath, ZipFilePath};
use rawzip::{
    CompressionMethod, ErrorKind, FileReader, MAX_CENTRAL_DIRECTORY_RECORD_SIZE, ReaderAt,
    ZipArchive, ZipArchiveEntryWayfinder, ZipArchiveWriter, ZipLocator,
};

use crate::rows::Unread;

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

    /// The array of that name, whose elements are still to be read.
    pub(crate) fn array(&self, name: &str) -> Result<Unread<'_>, String> {
        let member = self.members.iter().find(|member| member.name == name);
        let member = member.ok_or_else(|| self.lacks(name))?;
        let open = || -> Result<Box<dyn Read + '_>, String> {
            let entry = self.zip.get_entry(member.place).map_err(|error| fault(&error))?;
            let stored = entry.reader();
            match member.method {
                CompressionMethod::STORE => Ok(Box::new(entry.verifying_reader(stored))),
                CompressionMethod::DEFLATE => {
                    Ok(Box::new(entry.verifying_reader(DeflateDecoder::new(stored))))
                }
                method => Err(format!("it is compressed by {method:?}: save it by numpy.savez")),
            }
        };
        // What the archive says of the length is not trusted.
        let stream = open().map_err(|message| format!("array `{name}`: {message}"))?;
        Unread::of_member(name, stream)
    }

    /// That it has no array of that name.
    pub(crate) fn lacks(&self, name: &str) -> String {
        let names: Vec<String> = self.names().iter().map(|name| format!("`{name}`")).collect();
        let has = if names.is_empty() { "no array at all".into() } else { names.join(", ") };
        format!("it has no array `{name}`, but {has}")
    }
}

fn fault(error: &rawzip::Error) -> String {
    format!("it is no whole .npz file: {error}")
}

/// Writes an archive of arrays, uncompressed as by `numpy.savez`; `encode` writes that of a name.
pub(crate) fn write<'a>(
    sink: &mut dyn Write,
    names: impl IntoIterator<Item = &'a str>,
    mut encode: impl FnMut(&str, &mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut zip = ZipArchiveWriter::new(sink);
    for name in names {
        let (mut entry, config) = zip.new_file(path(name)?).start().map_err(into_io)?;
        let mut data = config.wrap(&mut entry);
        encode(name, &mut data)?;
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
    use crate::npy;

    fn put(sink: &mut dyn Write, x: &Tensor) -> io::Result<()> {
        sink.write_all(&npy::header(x.view().dtype(), x.view().shape())?)?;
        sink.write_all(x.view().bytes().unwrap())
    }

    #[test]
    fn archives_that_are_cut_or_changed_are_read_as_they_were_or_refused() {
        let x = Tensor::new(&[3], &[1.0f32, 2.0, 3.0]).unwrap();
        let mut bytes = Vec::new();
        write(&mut bytes, ["x"], |_, sink| put(sink, &x)).unwrap();
        let read = |bytes: &[u8]| {
            let archive = Archive::of_bytes(bytes.to_vec())?;
            let x = archive.array("x")?.whole()?.tensor(lumina_runtime::DType::F32, true)?;
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
            write(&mut bytes, [name], |_, sink| put(sink, &x)).unwrap();
            assert_eq!(Archive::of_bytes(bytes).unwrap().names(), [name]);
        }
        for name in ["a\0b", "ä/../x", &"x".repeat(1 << 16)] {
            write(&mut Vec::new(), [name], |_, sink| put(sink, &x)).unwrap_err();
        }
    }
}
