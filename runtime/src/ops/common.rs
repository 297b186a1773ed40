//! What the ops share: checks of operands and attributes, and loops over disjoint chunks.

use std::sync::{Mutex, PoisonError};

use lumina_kernels::{DType, Error, Fact, ParFor};

/// Elements of a chunk of an elementwise loop: a few microseconds of work.
pub(super) const CHUNK: usize = 1 << 14;

/// The operands, of which there must be `N`.
pub(super) fn operands<'a, const N: usize>(
    op: &'static str,
    inputs: &'a [Fact],
) -> Result<&'a [Fact; N], Error> {
    inputs
        .try_into()
        .map_err(|_| Error::invalid(op, format!("expected {N} operands, got {}", inputs.len())))
}

/// The refusal of an attribute or of shapes.
pub(super) fn refuse<T>(op: &'static str, message: String) -> Result<T, Error> {
    Err(Error::invalid(op, message))
}

/// The refusal of an element type.
pub(super) fn unsupported(op: &'static str, name: &str, got: DType) -> Error {
    Error::invalid(op, format!("`{name}` of dtype {got} is not supported"))
}

/// The element type in a text attribute.
pub(super) fn dtype(op: &'static str, name: &str, text: &str) -> Result<DType, Error> {
    DType::from_name(text).ok_or_else(|| {
        let known: Vec<&str> = DType::ALL.iter().map(|dtype| dtype.name()).collect();
        let known = known.join(", ");
        Error::invalid(op, format!("attribute `{name}` must be one of {known}, got `{text}`"))
    })
}

/// Integers that are not negative: axes, extents, positions.
pub(super) fn naturals(op: &'static str, name: &str, values: &[i64]) -> Result<Vec<usize>, Error> {
    let natural = |&value: &i64| {
        usize::try_from(value).map_err(|_| {
            Error::invalid(op, format!("attribute `{name}` must not be negative, got {value}"))
        })
    };
    values.iter().map(natural).collect()
}

/// One axis or position.
pub(super) fn natural(op: &'static str, name: &str, value: i64) -> Result<usize, Error> {
    usize::try_from(value).map_err(|_| {
        Error::invalid(op, format!("attribute `{name}` must not be negative, got {value}"))
    })
}

/// Checks that `axes` are different axes of a tensor of this rank.
pub(super) fn check_axes(
    op: &'static str,
    name: &str,
    axes: &[usize],
    rank: usize,
) -> Result<(), Error> {
    let mut seen = vec![false; rank];
    for &axis in axes {
        match seen.get_mut(axis) {
            Some(seen) if !*seen => *seen = true,
            _ => {
                let message = format!(
                    "attribute `{name}` must name different axes of rank {rank}, got {axes:?}"
                );
                return Err(Error::invalid(op, message));
            }
        }
    }
    Ok(())
}

/// Splits `out` into chunks of `length` and calls `task(start, chunk)` for each, on the pool
/// where there are several.
pub(crate) fn chunked<T: Send>(
    pool: &dyn ParFor,
    out: &mut [T],
    length: usize,
    task: impl Fn(usize, &mut [T]) + Sync,
) {
    run_chunks(pool, out, length.max(1), &task);
}

/// [`chunked`], compiled once for each element type.
fn run_chunks<T: Send>(
    pool: &dyn ParFor,
    out: &mut [T],
    length: usize,
    task: &(dyn Fn(usize, &mut [T]) + Sync),
) {
    if out.len() <= length {
        if !out.is_empty() {
            task(0, out);
        }
        return;
    }
    // Each chunk is locked once, by the one call that has its number.
    let chunks: Vec<Mutex<&mut [T]>> = out.chunks_mut(length).map(Mutex::new).collect();
    pool.run(chunks.len(), &|chunk, _| {
        let mut piece = chunks[chunk].lock().unwrap_or_else(PoisonError::into_inner);
        task(chunk * length, &mut piece);
    });
}

/// Evaluates an expression with `$T` as the Rust type of the element type.
macro_rules! with_element {
    ($dtype:expr, $T:ident => $body:expr) => {
        lumina_kernels::for_each_dtype!(element_arms($dtype, $T, $body))
    };
}
pub(crate) use with_element;

macro_rules! element_arms {
    (($dtype:expr, $T:ident, $body:expr) $($variant:ident: $ty:ty, $name:literal, $xla:literal,
      $file:literal, $c:literal, $numpy:literal, $doc:literal;)*) => {
        match $dtype {
            $(lumina_kernels::DType::$variant => {
                type $T = $ty;
                $body
            })*
        }
    };
}
pub(crate) use element_arms;
