//! What reductions of axes and of windows have in common: the operations, and the ops made of them.

use lumina_kernels::{Attrs, Element, Error, Fact, ParFor, View, ViewMut};

/// Which elements of the operand an element of the result combines.
pub(super) trait Over: Sized + Send + Sync + 'static {
    fn from_attrs(op: &'static str, attrs: &dyn Attrs) -> Result<Self, Error>;

    /// The shape of the result.
    fn shape(&self, op: &'static str, x: &Fact) -> Result<Vec<usize>, Error>;

    /// Operations for each element of the result.
    fn operations(&self, x_shape: &[usize]) -> usize {
        let _ = x_shape;
        1
    }

    /// Combines the elements from `initial`, which changes none.
    fn reduce<T: Element>(
        &self,
        x: &View<'_>,
        out: &mut ViewMut<'_>,
        pool: &dyn ParFor,
        initial: T,
        combine: impl Fn(T, T) -> T + Sync,
    ) -> Result<(), Error>;
}

/// The ops `PREFIXsum`, `PREFIXprod` and so on over the elements that `$over` chooses, for the types
/// that all have, those that are given for sums and products, and further ops.
macro_rules! reductions {
    ($over:ident, $prefix:literal;
     sum { $($sum:tt)* } prod { $($prod:tt)* } $($more:tt)*) => {
        reduction_ops! { $over, $prefix;
            "sum" Sum {
                f32: 0.0, |a, b| a + b;
                u32: 0, u32::wrapping_add;
                i32: 0, i32::wrapping_add;
                i8: 0, i8::wrapping_add;
                $($sum)*
            }
            "prod" Prod {
                f32: 1.0, |a, b| a * b;
                u32: 1, u32::wrapping_mul;
                i32: 1, i32::wrapping_mul;
                i8: 1, i8::wrapping_mul;
                $($prod)*
            }
            /// NaN where any is.
            "max" Max {
                f32: f32::NEG_INFINITY, max;
                u32: u32::MIN, Ord::max;
                i32: i32::MIN, Ord::max;
                i8: i8::MIN, Ord::max;
                Bool: Bool::from(false), Ord::max;
            }
            /// NaN where any is.
            "min" Min {
                f32: f32::INFINITY, min;
                u32: u32::MAX, Ord::min;
                i32: i32::MAX, Ord::min;
                i8: i8::MAX, Ord::min;
                Bool: Bool::from(true), Ord::min;
            }
            "and" And {
                Bool: Bool::from(true), |a, b| a & b;
                u32: u32::MAX, |a, b| a & b;
                i32: -1, |a, b| a & b;
                i8: -1, |a, b| a & b;
            }
            "or" Or {
                Bool: Bool::from(false), |a, b| a | b;
                u32: 0, |a, b| a | b;
                i32: 0, |a, b| a | b;
                i8: 0, |a, b| a | b;
            }
            $($more)*
        }
    };
}
pub(super) use reductions;

macro_rules! reduction_ops {
    ($over:ident, $prefix:literal; $($(#[$doc:meta])* $name:literal $op:ident {
        $($ty:ty: $initial:expr, $combine:expr;)+
    })+) => {$(
        $(#[$doc])*
        struct $op($over);

        impl Op for $op {
            const NAME: &'static str = concat!($prefix, $name);

            fn from_attrs(attrs: &dyn Attrs) -> Result<Self, Error> {
                $over::from_attrs(Self::NAME, attrs).map(Self)
            }

            fn output_shapes(&self, inputs: &[Fact]) -> Result<Vec<Fact>, Error> {
                let [x] = operands(Self::NAME, inputs)?;
                let shape = self.0.shape(Self::NAME, x)?;
                match x.dtype {
                    $(<$ty as Element>::DTYPE => Ok(vec![Fact::new(x.dtype, shape)]),)+
                    other => Err(unsupported(Self::NAME, "operand", other)),
                }
            }

            fn run(
                &self,
                inputs: &[View<'_>],
                outputs: &mut [ViewMut<'_>],
                pool: &dyn ParFor,
            ) -> Result<(), Error> {
                let (x, out) = (&inputs[0], &mut outputs[0]);
                match x.dtype() {
                    $(<$ty as Element>::DTYPE => {
                        self.0.reduce::<$ty>(x, out, pool, $initial, $combine)
                    })+
                    other => Err(unsupported(Self::NAME, "operand", other)),
                }
            }

            fn work(&self, inputs: &[Fact]) -> Result<Work, Error> {
                let outputs = Op::output_shapes(self, inputs)?;
                let each = self.0.operations(&inputs[0].shape) as u64;
                let bytes = Work::bytes_of(inputs).saturating_add(Work::bytes_of(&outputs));
                Ok(Work { flops: (outputs[0].len() as u64).saturating_mul(each), bytes })
            }
        }
    )+

    pub(super) static OPS: &[Entry] = &[$(Entry::of::<$op>()),+];
    };
}
pub(super) use reduction_ops;
