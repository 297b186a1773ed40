//! `scan`: a loop over the first axis of some operands.

use lumina_kernels::{Attrs, Error, Fact, View, ViewMut};

use super::{
    Control, ControlEntry, MAX_TRIPS, RegionNames, Regions, bytes_of, copy_all, lent, unlike, views,
};
use crate::tensor::{byte_size, view, view_mut};

const NAME: &str = "scan";

/// Operands are a carry, `carries` of them, and arrays of `length` lines along their first axis.
/// Results are the carry, and arrays of as many lines.
///
/// ```text
/// for t in 0..length, backwards with `reverse`:
///     carry, lines[t] = body(carry, arrays[t])
/// ```
struct Scan {
    length: usize,
    carries: usize,
    reverse: bool,
}

pub(super) const ENTRY: ControlEntry = ControlEntry {
    name: NAME,
    regions: RegionNames::Fixed(&["body"]),
    make: |attrs: &dyn Attrs| {
        let refuse = |message| Err(Error::invalid(NAME, message));
        let &[length] = attrs.ints(NAME, "length")? else {
            return refuse("attribute `length` must be one number".to_string());
        };
        if !(0..=MAX_TRIPS).contains(&length) {
            return refuse(format!(
                "attribute `length` must be from 0 to {MAX_TRIPS}, got {length}"
            ));
        }
        let carries = attrs.int(NAME, "carries")?;
        let Ok(carries) = usize::try_from(carries) else {
            return refuse(format!("attribute `carries` must not be negative, got {carries}"));
        };
        let reverse = attrs.bool(NAME, "reverse")?;
        Ok(Box::new(Scan { length: length as usize, carries, reverse }))
    },
};

impl Control for Scan {
    fn region_inputs(&self, operands: &[Fact], _: usize) -> Result<Vec<Vec<Fact>>, Error> {
        if operands.len() < self.carries {
            let message = format!("expected a carry of {}, got {}", self.carries, operands.len());
            return Err(Error::invalid(NAME, message));
        }
        let (carry, arrays) = operands.split_at(self.carries);
        let line = |array: &Fact| match array.shape.split_first() {
            Some((&length, rest)) if length == self.length => Ok(Fact::new(array.dtype, rest)),
            _ => {
                let message = format!("an array must have {} lines, got {array}", self.length);
                Err(Error::invalid(NAME, message))
            }
        };
        let lines = arrays.iter().map(line).collect::<Result<Vec<_>, _>>()?;
        Ok(vec![[carry, &lines].concat()])
    }

    fn output_shapes(&self, operands: &[Fact], results: &[Vec<Fact>]) -> Result<Vec<Fact>, Error> {
        let carry = &operands[..self.carries];
        let got = &results[0][..self.carries.min(results[0].len())];
        if got != carry {
            return unlike(NAME, "body", carry, got);
        }
        let lines = results[0][self.carries..].iter().map(|line| {
            let shape: Vec<usize> = [self.length].iter().chain(&line.shape).copied().collect();
            Fact::new(line.dtype, shape)
        });
        Ok(carry.iter().cloned().chain(lines).collect())
    }

    fn scratch(&self, operands: &[Fact]) -> Vec<Fact> {
        operands[..self.carries].to_vec()
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        scratch: &mut [ViewMut<'_>],
        regions: &mut dyn Regions,
    ) -> Result<(), crate::Error> {
        let (first, arrays) = inputs.split_at(self.carries);
        let (last, lines) = outputs.split_at_mut(self.carries);
        if self.length == 0 {
            return Ok(copy_all(first, last)?);
        }
        let of_carry: Vec<Fact> = first.iter().map(View::fact).collect();
        let (mut last, mut spare) = (lent(&of_carry, last)?, lent(&of_carry, scratch)?);
        let of_array: Vec<Fact> = arrays.iter().map(|array| line_of(&array.fact())).collect();
        let of_lines: Vec<Fact> = lines.iter().map(|lines| line_of(&lines.fact())).collect();
        for trip in 0..self.length {
            let line = if self.reverse { self.length - 1 - trip } else { trip };
            let mut given: Vec<View<'_>> = Vec::with_capacity(inputs.len());
            // The carry alternates between two places, so that the last one is the result.
            let is_last_place = (self.length - 1 - trip).is_multiple_of(2);
            let (from, to) = match is_last_place {
                true => (&spare, &mut last),
                false => (&last, &mut spare),
            };
            match trip {
                0 => given.extend(first),
                _ => given.extend(views(from)),
            }
            for (array, fact) in arrays.iter().zip(&of_array) {
                let size = byte_size(fact).unwrap_or(0);
                given.push(view(fact, &array.bytes()?[line * size..][..size])?);
            }
            let mut written = lent(&of_carry, to)?;
            for (lines, fact) in lines.iter_mut().zip(&of_lines) {
                let size = byte_size(fact).unwrap_or(0);
                written.push(view_mut(fact, &mut bytes_of(lines)?[line * size..][..size])?);
            }
            regions.run(0, &given, &mut written)?;
        }
        Ok(())
    }
}

/// A line of an array.
fn line_of(array: &Fact) -> Fact {
    Fact::new(array.dtype, &array.shape[1..])
}
