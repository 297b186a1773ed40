//! A handler that tells what it was called with, for tests: what the decoder of this crate makes of a call
//! of XLA is compared with what XLA's own decoder makes of it.

use std::fmt;

use lumina_kernels::{Attrs, DType, Error, Fact, Op, ParFor, View, ViewMut, for_each_dtype};

/// Result 0 is u8\[size\], the text that tells of the call and then zeros; each operand is copied to a
/// result of its own.
///
/// ```text
/// flag 1                               bools and integers in decimal
/// single 3ff8000000000000              floats by their bits, in f64
/// text 6869                            bytes of a string in hexadecimal
/// list 1,-2,
/// operand 11 2,3, 0000803f...          number of the element type, extents, bytes
/// result 11 2,3,
/// ```
pub(crate) struct Probe {
    size: usize,
    text: String,
}

impl Op for Probe {
    const NAME: &'static str = "probe";

    fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
        let op = Self::NAME;
        let mut text = format!("flag {}\n", u8::from(attrs.bool(op, "flag")?));
        for name in ["short", "long"] {
            text += &format!("{name} {}\n", attrs.int(op, name)?);
        }
        for name in ["single", "double"] {
            text += &format!("{name} {:016x}\n", attrs.float(op, name)?.to_bits());
        }
        text += &format!("text {}\n", Hex(attrs.str(op, "text")?.as_bytes()));
        text += &format!("list {}\n", List(attrs.ints(op, "list")?));
        let size = attrs.int(op, "size")?;
        let size = usize::try_from(size)
            .map_err(|_| Error::invalid(op, format!("`size` must not be negative, got {size}")))?;
        Ok(Self { size, text })
    }

    fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
        Ok([&[Fact::new(DType::U8, [self.size])], inputs].concat())
    }

    fn run(
        &self,
        inputs: &[View<'_>],
        outputs: &mut [ViewMut<'_>],
        _: &dyn ParFor,
    ) -> Result<(), Error> {
        let mut text = self.text.clone();
        for input in inputs {
            let (dtype, shape) = (number(input.dtype()), List(input.shape()));
            text += &format!("operand {dtype} {shape} {}\n", Hex(input.bytes()?));
        }
        for output in &*outputs {
            text += &format!("result {} {}\n", number(output.dtype()), List(output.shape()));
        }
        let (told, copies) = outputs.split_first_mut().expect("there is a result for the text");
        let told = told.data_mut::<u8>()?;
        told.fill(0);
        let room = told.get_mut(..text.len()).ok_or_else(|| {
            Error::invalid(Self::NAME, format!("`size` must be {} at least", text.len()))
        })?;
        room.copy_from_slice(text.as_bytes());
        for (input, copy) in inputs.iter().zip(copies) {
            copy_to(input, copy)?;
        }
        Ok(())
    }
}

/// What XLA calls the type.
fn number(dtype: DType) -> u32 {
    let mut numbers = 0..64;
    numbers.find(|&number| DType::from_xla_number(number) == Some(dtype)).expect("a type of XLA")
}

macro_rules! copies {
    ($($variant:ident: $ty:ty, $name:literal, $xla:literal, $file:literal, $c:literal, $numpy:literal,
       $doc:literal;)*) => {
        /// Copies all elements.
        fn copy_to(from: &View<'_>, to: &mut ViewMut<'_>) -> Result<(), Error> {
            match from.dtype() {
                $(DType::$variant => to.data_mut::<$ty>()?.copy_from_slice(from.data()?),)*
            }
            Ok(())
        }
    };
}

for_each_dtype!(copies);

/// Bytes in hexadecimal.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Numbers, each with a comma after it.
struct List<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|number| write!(f, "{number},"))
    }
}
