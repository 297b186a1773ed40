//! The inputs of a run: arrays from .npy and .npz files, standard input, and the noise seed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use lumina_runtime::{Model, Port, Role, Tensor};

use crate::assign::{Assignment, list, names_none};
use crate::files::{Identity, STANDARD_STREAM};
use crate::npy::Array;
use crate::npz::{self, Archive};

/// The inputs of the graph, in its order.
pub(crate) fn read(
    model: &Model,
    arguments: &[OsString],
    cast: bool,
    noise_seed: Option<u64>,
) -> Result<Vec<Tensor>, String> {
    let is_seed = |port: &Port| port.role == Role::NoiseSeed;
    let seed = model.inputs().iter().find(|port| is_seed(port));
    match (seed, noise_seed) {
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
    let ports: Vec<&Port> = model.inputs().iter().filter(|port| !is_seed(port)).collect();
    let mut arrays = arrays(&ports, arguments, cast)?.into_iter();
    model
        .inputs()
        .iter()
        .map(|port| match noise_seed {
            Some(seed) if is_seed(port) => {
                let words = [(seed >> 32) as u32, seed as u32];
                Tensor::new(&[2], &words).map_err(|error| error.to_string())
            }
            _ => arrays.next().flatten().ok_or_else(|| {
                let name = &port.name;
                format!("input `{name}` is missing: pass --input {name}=PATH")
            }),
        })
        .collect()
}

/// A tensor for each port that the arguments give one.
fn arrays(
    ports: &[&Port],
    arguments: &[OsString],
    cast: bool,
) -> Result<Vec<Option<Tensor>>, String> {
    let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    let mut named: Vec<Option<&Path>> = vec![None; ports.len()];
    let mut unnamed = Vec::new();
    let mut streams = Streams::default();
    for argument in arguments {
        let Assignment { port, path } = Assignment::parse(argument, &names);
        streams.add(path)?;
        match port {
            Some(port) if named[port].replace(path).is_some() => return Err(twice(names[port])),
            Some(_) => {}
            None => unnamed.push((argument, path)),
        }
    }
    let mut tensors: Vec<Option<Tensor>> = ports.iter().map(|_| None).collect();
    for (argument, path) in unnamed {
        // A name that is mistyped leaves a path that is no file.
        if path != Path::new(STANDARD_STREAM) && !path.exists() {
            return Err(names_none("input", argument, &names));
        }
        let cannot_read = |message| cannot_read(path, message);
        let Source::Archive(archive) = open(path).map_err(cannot_read)? else {
            return Err(names_none("input", argument, &names));
        };
        let held: Vec<usize> =
            (0..ports.len()).filter(|&port| archive.names().contains(&names[port])).collect();
        if held.is_empty() {
            return Err(cannot_read(format!(
                "its arrays {} are no inputs of the model, which are {}",
                list(&archive.names()),
                list(&names)
            )));
        }
        for port in held {
            // What is named is meant to come from elsewhere.
            if named[port].is_some() {
                continue;
            }
            let array = archive.read(names[port]).map_err(cannot_read)?;
            let tensor = tensor(array, ports[port], path, cast)?;
            if tensors[port].replace(tensor).is_some() {
                return Err(twice(names[port]));
            }
        }
    }
    for (index, port) in ports.iter().enumerate() {
        if let Some(path) = named[index] {
            let array = open(path).and_then(|source| source.array(&port.name));
            let array = array.map_err(|message| cannot_read(path, message))?;
            tensors[index] = Some(tensor(array, port, path, cast)?);
        }
    }
    Ok(tensors)
}

fn tensor(array: Array, port: &Port, path: &Path, cast: bool) -> Result<Tensor, String> {
    array
        .tensor(port.dtype, cast)
        .map_err(|message| format!("input `{}`, from `{}`: {message}", port.name, path.display()))
}

fn twice(name: &str) -> String {
    format!("input `{name}` is given twice")
}

fn cannot_read(path: &Path, message: impl std::fmt::Display) -> String {
    format!("cannot read `{}`: {message}", path.display())
}

/// Pipes and devices, which can be read once.
#[derive(Default)]
struct Streams(Vec<Option<Identity>>);

impl Streams {
    fn add(&mut self, path: &Path) -> Result<(), String> {
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
                "--input {shown} is given twice, but can be read once: make a file"
            ));
        }
        self.0.push(identity);
        Ok(())
    }
}

/// What a path holds.
enum Source {
    Array(Array),
    Archive(Archive),
}

impl Source {
    /// The array for the input of that name: in an archive that of the same name, or the only one.
    fn array(self, name: &str) -> Result<Array, String> {
        match self {
            Self::Array(array) => Ok(array),
            Self::Archive(archive) => match archive.names()[..] {
                [only] => archive.read(only),
                _ => archive.read(name),
            },
        }
    }
}

fn open(path: &Path) -> Result<Source, String> {
    if path == Path::new(STANDARD_STREAM) {
        return of_stream(&mut io::stdin().lock());
    }
    let text = |error: io::Error| error.to_string();
    let mut file = File::open(path).map_err(text)?;
    let metadata = file.metadata().map_err(text)?;
    if !metadata.is_file() {
        return of_stream(&mut file);
    }
    let start = start(&mut file)?;
    if is_archive(&start) {
        return Archive::of_file(file).map(Source::Archive);
    }
    Array::read(&mut start.chain(file), Some(metadata.len())).map(Source::Array)
}

/// What comes through a pipe, of which nothing is known before.
fn of_stream(stream: &mut dyn Read) -> Result<Source, String> {
    let mut start = start(stream)?;
    if is_archive(&start) {
        stream.read_to_end(&mut start).map_err(|error| error.to_string())?;
        return Archive::of_bytes(start).map(Source::Archive);
    }
    Array::read(&mut start.chain(stream), None).map(Source::Array)
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
