//! The inputs of a run: arrays from .npy and .npz files, standard input, and the noise seed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use lumina_runtime::{Port, Role, Tensor};

use crate::assign::{Assignment, list, names_none};
use crate::files::{Identity, STANDARD_STREAM};
use crate::npy::Array;
use crate::npz::{self, Archive};
use crate::rows::Unread;

/// Files that are open, and the inputs that they are for.
pub(crate) struct Opened<'a> {
    ports: &'a [Port],
    seed: Option<u64>,
    /// For each input what is given for it by name.
    named: Vec<Option<(&'a Path, Open)>>,
    /// Archives that hold inputs by their names.
    unnamed: Vec<(&'a Path, Archive)>,
    /// The archive that the states come from.
    pub(crate) states: Option<(&'a Path, Archive)>,
}

/// What an input comes from.
pub(crate) enum Source<'a> {
    Seed(u64),
    Array { port: &'a Port, path: &'a Path, array: Unread<'a> },
}

impl Source<'_> {
    /// Bytes of an array that are known to be there.
    pub(crate) fn known_size(&self) -> u64 {
        match self {
            Self::Seed(_) => 0,
            Self::Array { array, .. } => array.known_size(),
        }
    }
}

/// What a path holds.
enum Open {
    Array(Unread<'static>),
    Archive(Archive),
}

impl<'a> Opened<'a> {
    /// Opens the files of `arguments`, which are for these inputs, and that of the `states`.
    pub(crate) fn new(
        ports: &'a [Port],
        arguments: &'a [OsString],
        seed: Option<u64>,
        states: Option<&'a Path>,
    ) -> Result<Self, String> {
        let port = ports.iter().find(|port| is_seed(port));
        match (port, seed) {
            (Some(port), None) => {
                let name = &port.name;
                return Err(format!(
                    "the model draws noise from a key (input `{name}`): pass --noise-seed N"
                ));
            }
            (None, Some(_)) => {
                return Err("the model draws no noise from a key: leave --noise-seed out".into());
            }
            _ => {}
        }
        // The places of the inputs that take arrays, and their names.
        let places: Vec<usize> = (0..ports.len()).filter(|&at| !is_seed(&ports[at])).collect();
        let names: Vec<&str> = places.iter().map(|&at| ports[at].name.as_str()).collect();
        let mut paths: Vec<Option<&Path>> = vec![None; ports.len()];
        let mut others = Vec::new();
        let mut streams = Streams::default();
        for argument in arguments {
            let Assignment { port, path } = Assignment::parse(argument, &names);
            streams.add("input", path)?;
            match port {
                Some(port) if paths[places[port]].replace(path).is_some() => {
                    return Err(twice(names[port]));
                }
                Some(_) => {}
                None => others.push((argument, path)),
            }
        }
        let states = states.map(|path| {
            streams.add("state", path)?;
            Ok::<_, String>((path, archive(path)?))
        });
        let states = states.transpose()?;
        let mut unnamed = Vec::new();
        for (argument, path) in others {
            // A name that is mistyped leaves a path that is no file.
            if path != Path::new(STANDARD_STREAM) && !path.exists() {
                return Err(names_none("input", argument, &names));
            }
            let cannot_read = |message| cannot_read(path, message);
            let Open::Archive(archive) = open(path).map_err(cannot_read)? else {
                return Err(names_none("input", argument, &names));
            };
            if !archive.names().iter().any(|name| names.contains(name)) {
                return Err(cannot_read(format!(
                    "its arrays {} are no inputs of the model, which are {}",
                    list(&archive.names()),
                    list(&names)
                )));
            }
            unnamed.push((path, archive));
        }
        let open = |path: Option<&'a Path>| {
            let open = |path| Ok((path, open(path).map_err(|message| cannot_read(path, message))?));
            path.map(open).transpose()
        };
        let named = paths.into_iter().map(open).collect::<Result<_, String>>()?;
        Ok(Self { ports, seed, named, unnamed, states })
    }

    /// What each input comes from, in the order of the model.
    pub(crate) fn sources(&mut self) -> Result<Vec<Source<'_>>, String> {
        let Self { ports, seed, named, unnamed, .. } = self;
        let mut sources = Vec::new();
        for (port, named) in ports.iter().zip(named) {
            if let Some(seed) = seed.filter(|_| is_seed(port)) {
                sources.push(Source::Seed(seed));
                continue;
            }
            let name = &port.name;
            let mut found = None;
            match named {
                Some((path, Open::Archive(archive))) => {
                    found = Some((*path, member(archive, name)));
                }
                Some((path, _)) => {
                    let path = *path;
                    if let Some((_, Open::Array(array))) = named.take() {
                        found = Some((path, Ok(array)));
                    }
                }
                // What is named is meant to come from elsewhere.
                None => {
                    for (path, archive) in &*unnamed {
                        if !archive.names().contains(&name.as_str()) {
                            continue;
                        }
                        if found.replace((*path, archive.array(name))).is_some() {
                            return Err(twice(name));
                        }
                    }
                }
            }
            let (path, array) = found
                .ok_or_else(|| format!("input `{name}` is missing: pass --input {name}=PATH"))?;
            let array = array.map_err(|message| cannot_read(path, message))?;
            sources.push(Source::Array { port, path, array });
        }
        Ok(sources)
    }
}

/// The archive at `path`.
fn archive(path: &Path) -> Result<Archive, String> {
    match open(path).map_err(|message| cannot_read(path, message))? {
        Open::Archive(archive) => Ok(archive),
        Open::Array(_) => Err(cannot_read(path, "it is a .npy file, expected a .npz file")),
    }
}

/// The array for the input of that name: that of the same name, or the only one.
fn member<'a>(archive: &'a Archive, name: &str) -> Result<Unread<'a>, String> {
    match archive.names()[..] {
        [only] => archive.array(only),
        _ => archive.array(name),
    }
}

fn is_seed(port: &Port) -> bool {
    port.role == Role::NoiseSeed
}

/// The tensor that an input takes of an array.
pub(crate) fn tensor(array: Array, port: &Port, path: &Path, cast: bool) -> Result<Tensor, String> {
    array
        .tensor(port.dtype, cast)
        .map_err(|message| format!("input `{}`, from `{}`: {message}", port.name, path.display()))
}

fn twice(name: &str) -> String {
    format!("input `{name}` is given twice")
}

pub(crate) fn cannot_read(path: &Path, message: impl std::fmt::Display) -> String {
    format!("cannot read `{}`: {message}", path.display())
}

/// Pipes and devices, which can be read once.
#[derive(Default)]
struct Streams(Vec<Option<Identity>>);

impl Streams {
    fn add(&mut self, option: &str, path: &Path) -> Result<(), String> {
        let identity = if path == Path::new(STANDARD_STREAM) {
            Identity::of_stdin()
        } else if path.metadata().is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            Identity::of(path)
        } else {
            return Ok(());
        };
        if self.0.contains(&identity) {
            let shown = path.display();
            return Err(format!(
                "--{option} {shown} is given twice, but can be read once: make a file"
            ));
        }
        self.0.push(identity);
        Ok(())
    }
}

fn open(path: &Path) -> Result<Open, String> {
    if path == Path::new(STANDARD_STREAM) {
        return of_stream(Box::new(io::stdin().lock()));
    }
    let text = |error: io::Error| error.to_string();
    let mut file = File::open(path).map_err(text)?;
    let metadata = file.metadata().map_err(text)?;
    if !metadata.is_file() {
        return of_stream(Box::new(file));
    }
    let is_archive = is_archive(&start(&mut file)?);
    if is_archive {
        return Archive::of_file(file).map(Open::Archive);
    }
    io::Seek::rewind(&mut file).map_err(text)?;
    Unread::of_file(file, metadata.len()).map(Open::Array)
}

/// What comes through a pipe, of which nothing is known before.
fn of_stream(mut stream: Box<dyn Read>) -> Result<Open, String> {
    let mut start = start(&mut stream)?;
    if is_archive(&start) {
        stream.read_to_end(&mut start).map_err(|error| error.to_string())?;
        return Archive::of_bytes(start).map(Open::Archive);
    }
    Unread::of_stream(Box::new(io::Cursor::new(start).chain(stream))).map(Open::Array)
}

/// The first bytes, which tell what it is.
fn start(reader: &mut dyn Read) -> Result<Vec<u8>, String> {
    let mut start = Vec::new();
    reader.take(4).read_to_end(&mut start).map_err(|error| error.to_string())?;
    if start.is_empty() { Err("it is empty".into()) } else { Ok(start) }
}

fn is_archive(start: &[u8]) -> bool {
    npz::MAGICS.contains(&start)
}
