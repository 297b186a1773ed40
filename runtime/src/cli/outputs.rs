//! The outputs of a run: .npy and .npz files, pipes, devices and standard output.

use std::ffi::OsString;
use std::path::Path;

use lumina_runtime::Port;

use crate::assign::{Assignment, names_none};
use crate::destination::Destination;
use crate::files::Identity;

/// What goes to one place.
pub(crate) struct Output {
    pub(crate) destination: Destination,
    pub(crate) content: Content,
}

pub(crate) enum Content {
    /// The output of that index.
    Array(usize),
    /// Outputs by their names.
    Archive(Vec<usize>),
    /// What the session keeps for the next one, by name.
    States,
}

/// Where `arguments` send the outputs of the model in the file at `model`, and `states` the states.
pub(crate) fn plan(
    model: &Path,
    ports: &[Port],
    arguments: &[OsString],
    states: Option<&Path>,
) -> Result<Vec<Output>, String> {
    let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    let mut outputs: Vec<Output> = Vec::new();
    let mut taken = vec![(Identity::of(model), model)];
    let mut is_given = vec![false; ports.len()];
    for argument in arguments {
        let Assignment { port, path } = Assignment::parse(argument, &names);
        let is_archive = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npz"));
        let is_whole = is_archive && Path::new(argument) == path;
        let content = match port {
            _ if is_whole => Content::Archive((0..ports.len()).collect()),
            Some(port) if is_given[port] => {
                return Err(format!("output `{}` is given twice", names[port]));
            }
            Some(port) => {
                is_given[port] = true;
                if is_archive { Content::Archive(vec![port]) } else { Content::Array(port) }
            }
            None => return Err(names_none("output", argument, &names)),
        };
        outputs.push(Output { destination: place("output", path, &mut taken)?, content });
    }
    if let Some(path) = states {
        let destination = place("save-state", path, &mut taken)?;
        outputs.push(Output { destination, content: Content::States });
    }
    Ok(outputs)
}

/// The place at `path`, which must be none of those that are taken, and is then taken.
fn place<'a>(
    option: &str,
    path: &'a Path,
    taken: &mut Vec<(Option<Identity>, &'a Path)>,
) -> Result<Destination, String> {
    let destination = Destination::new(path)?;
    let identity = destination.identity();
    if identity.is_some()
        && let Some((_, other)) = taken.iter().find(|(taken, _)| *taken == identity)
    {
        let (path, other) = (path.display(), other.display());
        return Err(format!(
            "--{option} {path} leads to the same file as {other}: give it a path of its own"
        ));
    }
    taken.push((identity, path));
    Ok(destination)
}

impl Output {
    /// Whether it goes to standard output.
    pub(crate) fn is_stdout(&self) -> bool {
        self.destination.is_stdout()
    }
}
