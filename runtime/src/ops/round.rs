//! Rounding by a method that an attribute names.

use lumina_kernels::{Attrs, Element, Entry, Error, Fact, Op, ParFor, View, ViewMut};

use super::common::{operands, unsupported};
use super::unary::{map, map_in_place, mapped};

pub(super) static OPS: &[Entry] = &[Entry::of::<Round>()];

/// To the nearest integer; `rounding_method` says where halves go: 0 away from zero, 1 to even.
struct Round {
    to_even: bool,
}

impl Op for Round {
    const NAME: &'static str = "round";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        match attrs.int(Self::NAME, "rounding_method")? {
            0 => Ok(Self { to_even: false }),
            1 => Ok(Self { to_even: true }),
            other => Err(Error::invalid(
                Self::NAME,
                format!("attribute `rounding_method` must be 0 or 1, got {other}"),
            )),
        }
    }

    mapped! {
        f32 => f32: |op: &Self| {
            let to_even = op.to_even;
            move |x: f32| if to_even { x.round_ties_even() } else { x.round() }
        };
    }
}
