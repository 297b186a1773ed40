//! Outputs that are written as they come, a piece behind the other.

use std::fs::File;
use std::io::{self, Seek as _, Write};

use lumina_runtime::{Port, Session, View};

use crate::destination::Writer;
use crate::outputs::{Content, Output};
use crate::pieces::{Piece, Whole};
use crate::{npy, npz};

/// Outputs on their way.
pub(crate) struct Joined<'a> {
    ports: &'a [Port],
    outputs: Vec<Joining<'a>>,
    whole: Whole,
    /// Whether the first piece is all.
    is_one: bool,
}

struct Joining<'a> {
    output: &'a Output,
    writer: Option<Writer<'a>>,
    /// Of an archive that gets several pieces: what there is so far of each of its arrays, which
    /// come one after the other in it.
    parts: Vec<File>,
}

impl<'a> Joined<'a> {
    /// Of pieces that make that whole; `is_one` where the first is all.
    pub(crate) fn new(
        outputs: &'a [Output],
        ports: &'a [Port],
        whole: Whole,
        is_one: bool,
    ) -> Self {
        let joining = |output| Joining { output, writer: None, parts: Vec::new() };
        // Streams come last, so that what cannot be taken back is not written before a fault of a
        // file.
        let (files, streams): (Vec<_>, Vec<_>) =
            outputs.iter().partition(|output| output.destination.folder().is_some());
        let outputs = files.into_iter().chain(streams).map(joining).collect();
        Self { ports, outputs, whole, is_one }
    }

    /// Writes what a piece gave.
    pub(crate) fn append(&mut self, piece: Piece, results: &[View<'_>]) -> Result<(), String> {
        let Self { ports, outputs, whole, is_one } = self;
        let array = |sink: &mut dyn Write, view: &View<'_>| {
            if piece.first == 0 {
                sink.write_all(&npy::header(view.dtype(), &whole.shape(view.shape()))?)?;
            }
            sink.write_all(view.bytes().map_err(io::Error::other)?)
        };
        for Joining { output, writer, parts } in outputs {
            let Output { destination, content } = output;
            if matches!(content, Content::States) {
                continue;
            }
            let writer = match writer {
                Some(writer) => writer,
                None => writer.insert(destination.open()?),
            };
            match content {
                Content::Array(index) => writer.write(|sink| array(sink, &results[*index]))?,
                Content::Archive(indices) if *is_one => writer.write(|sink| {
                    let names = indices.iter().map(|&index| ports[index].name.as_str());
                    let mut views = indices.iter().map(|&index| &results[index]);
                    npz::write(sink, names, |_, sink| {
                        views.next().map_or(Ok(()), |v| array(sink, v))
                    })
                })?,
                Content::States => {}
                Content::Archive(indices) => {
                    let mut write = || {
                        for (position, &index) in indices.iter().enumerate() {
                            if parts.len() == position {
                                let folder = destination.folder();
                                parts.push(
                                    folder
                                        .map_or_else(tempfile::tempfile, tempfile::tempfile_in)?,
                                );
                            }
                            array(&mut parts[position], &results[index])?;
                        }
                        Ok(())
                    };
                    write().map_err(|error: io::Error| {
                        format!("cannot write the arrays of a .npz file: {error}")
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Whether anything is written, and somebody still waits for what comes.
    pub(crate) fn is_read(&self) -> bool {
        let is_left = |joining: &Joining<'_>| joining.writer.as_ref().is_some_and(Writer::is_left);
        !self.outputs.iter().all(is_left)
    }

    /// Ends it, with the states that `session` has then. Files take their places last, so that a
    /// fault leaves all as they were.
    pub(crate) fn finish(self, session: &mut Session, states: &[&str]) -> Result<(), String> {
        let mut writers = Vec::new();
        for Joining { output, writer, mut parts } in self.outputs {
            let mut writer = match (writer, &output.content) {
                (Some(writer), _) => writer,
                (None, Content::States) => {
                    let mut writer = output.destination.open()?;
                    writer.write(|sink| write_states(session, states, sink))?;
                    writer
                }
                (None, _) => continue,
            };
            if let (Content::Archive(indices), false) = (&output.content, self.is_one) {
                let names = indices.iter().map(|&index| self.ports[index].name.as_str());
                let mut parts = parts.iter_mut();
                writer.write(|sink| {
                    npz::write(sink, names, |_, sink| {
                        let Some(part) = parts.next() else { return Ok(()) };
                        part.rewind()?;
                        io::copy(part, sink).map(drop)
                    })
                })?;
            }
            writer.sync()?;
            writers.push(writer);
        }
        writers.into_iter().try_for_each(Writer::commit)
    }
}

/// Writes an archive of the states of these names.
fn write_states(session: &mut Session, names: &[&str], sink: &mut dyn Write) -> io::Result<()> {
    npz::write(sink, names.iter().copied(), |name, sink| {
        let state = session.state(name).map_err(io::Error::other)?;
        sink.write_all(&npy::header(state.dtype(), state.shape())?)?;
        sink.write_all(state.bytes().map_err(io::Error::other)?)
    })
}
