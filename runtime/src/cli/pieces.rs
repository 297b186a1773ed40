//! The inputs of a run, all at once or a piece at a time.

use std::num::NonZero;
use std::path::Path;

use lumina_runtime::{Batch, Port, Tensor, View, fold_in};

use crate::inputs::{Source, cannot_read, tensor};
use crate::rows::Rows;

/// How the inputs are cut.
pub(crate) enum Cut {
    /// Not at all.
    Whole,
    /// In pieces of so many rows of the batch.
    Rows(NonZero<usize>, Batch),
    /// Along an axis 0 that each input has beside its own.
    Steps,
}

/// What the outputs of all pieces are together.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whole {
    /// Those of the one piece.
    Piece,
    /// So many rows along axis 0.
    Rows(usize),
    /// So many steps along an axis 0 of their own.
    Steps(usize),
}

impl Whole {
    /// The shape of an output whose shape in a piece is this one.
    pub(crate) fn shape(self, piece: &[usize]) -> Vec<usize> {
        match (self, piece) {
            (Self::Steps(all), piece) => [&[all], piece].concat(),
            (Self::Rows(all), [_, rest @ ..]) => [&[all], rest].concat(),
            _ => piece.to_vec(),
        }
    }

    /// Rows or steps, where they are counted.
    pub(crate) fn count(self) -> Option<usize> {
        match self {
            Self::Piece => None,
            Self::Rows(count) | Self::Steps(count) => Some(count),
        }
    }
}

/// Inputs that are read as they are needed.
pub(crate) struct Pieces<'a> {
    inputs: Vec<Input<'a>>,
    cast: bool,
    /// Rows of a piece.
    size: usize,
    whole: Whole,
    /// The piece that is there: its number, first row and number of rows.
    piece: Option<Piece>,
}

/// What one run gets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Piece {
    number: u32,
    /// Of its rows in the whole.
    pub(crate) first: usize,
    pub(crate) rows: usize,
}

struct Input<'a> {
    /// What the input is in the piece that is there.
    tensor: Option<Tensor>,
    feed: Feed<'a>,
}

enum Feed<'a> {
    /// The same for all pieces.
    Once(Option<Source<'a>>),
    Seed(u64),
    Rows {
        port: &'a Port,
        path: &'a Path,
        rows: Rows<'a>,
        is_step: bool,
    },
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(sources: Vec<Source<'a>>, cut: &Cut, cast: bool) -> Result<Self, String> {
        let mut inputs = Vec::new();
        let mut first: Option<(&str, usize)> = None;
        for (index, source) in sources.into_iter().enumerate() {
            let is_cut = match cut {
                Cut::Whole => false,
                Cut::Rows(_, batch) => batch.inputs[index],
                Cut::Steps => true,
            };
            let feed = match source {
                Source::Array { port, path, array } if is_cut => {
                    let rows = array.rows().map_err(|message| cannot_read(path, message))?;
                    let count = rows.count();
                    let (name, expected) = *first.get_or_insert((&port.name, count));
                    if count != expected {
                        return Err(cut.differ((&port.name, count), (name, expected)));
                    }
                    Feed::Rows { port, path, rows, is_step: matches!(cut, Cut::Steps) }
                }
                Source::Seed(seed) if !matches!(cut, Cut::Whole) => Feed::Seed(seed),
                source => Feed::Once(Some(source)),
            };
            inputs.push(Input { tensor: None, feed });
        }
        let (size, whole) = match (cut, first) {
            (Cut::Rows(size, _), Some((_, all))) => (size.get(), Whole::Rows(all)),
            (Cut::Steps, Some((name, 0))) => {
                return Err(format!("--steps: axis 0 of input `{name}` has no steps"));
            }
            (Cut::Steps, Some((_, all))) => (1, Whole::Steps(all)),
            (Cut::Steps, None) => {
                return Err("--steps: the model has no input, and so no steps".into());
            }
            _ => (0, Whole::Piece),
        };
        Ok(Self { inputs, cast, size, whole, piece: None })
    }

    /// What the outputs of all pieces are together.
    pub(crate) fn whole(&self) -> Whole {
        self.whole
    }

    /// Whether one piece is all.
    pub(crate) fn is_one(&self) -> bool {
        self.whole.count().is_none_or(|all| all <= self.size)
    }

    /// Reads the next piece; None where there is none. Without any rows there is a piece of none,
    /// so that the outputs have their shapes.
    pub(crate) fn read(&mut self) -> Result<Option<Piece>, String> {
        let (size, all) = (self.size, self.whole.count().unwrap_or(0));
        let next = match self.piece {
            None => Piece { number: 0, first: 0, rows: size.min(all) },
            Some(Piece { number, first, rows }) if first + rows < all => Piece {
                number: number.wrapping_add(1),
                first: first + rows,
                rows: size.min(all - first - rows),
            },
            Some(_) => return Ok(None),
        };
        for Input { tensor, feed } in &mut self.inputs {
            feed.read(next, self.cast, tensor)?;
        }
        self.piece = Some(next);
        Ok(Some(next))
    }

    /// The inputs of the piece that was read last.
    pub(crate) fn views(&self) -> Vec<View<'_>> {
        self.inputs.iter().filter_map(|input| input.tensor.as_ref()).map(Tensor::view).collect()
    }
}

impl Cut {
    /// That two inputs, whose names and rows these are, cannot be cut together.
    fn differ(&self, (name, got): (&str, usize), (other, expected): (&str, usize)) -> String {
        match self {
            Self::Rows(_, Batch { name: symbol, .. }) => format!(
                "input `{name}` has {got} rows, and input `{other}` {expected}: `{symbol}` must be \
                 the same in all"
            ),
            _ => format!(
                "input `{name}` has {got} steps, and input `{other}` {expected}: there must be as \
                 many in all"
            ),
        }
    }
}

impl Feed<'_> {
    fn read(
        &mut self,
        piece: Piece,
        cast: bool,
        target: &mut Option<Tensor>,
    ) -> Result<(), String> {
        let new = match self {
            Self::Once(source) => match source.take() {
                Some(Source::Array { port, path, array }) => {
                    let array = array.whole().map_err(|message| cannot_read(path, message))?;
                    tensor(array, port, path, cast)?
                }
                Some(Source::Seed(seed)) => key(words(seed))?,
                None => return Ok(()),
            },
            // Rows of the same number in two pieces must not draw the same noise.
            Self::Seed(seed) => key(fold_in(words(*seed), piece.number))?,
            Self::Rows { port, path, rows, is_step } => {
                // Two pieces are never there at once.
                *target = None;
                let array = rows.read(piece.rows).map_err(|message| cannot_read(path, message))?;
                tensor(if *is_step { array.only_row() } else { array }, port, path, cast)?
            }
        };
        *target = Some(new);
        Ok(())
    }
}

/// The words of `jax.random.key(seed)`.
fn words(seed: u64) -> [u32; 2] {
    [(seed >> 32) as u32, seed as u32]
}

fn key(words: [u32; 2]) -> Result<Tensor, String> {
    Tensor::new(&[2], &words).map_err(|error| error.to_string())
}
