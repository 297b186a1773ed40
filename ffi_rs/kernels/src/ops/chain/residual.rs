//! What the forward op saves for the backward op.

use crate::{Attrs, DType, Error};

/// What the forward op hands on to the backward op, \[M,N\].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residual {
    /// y, from which noise and ADC are gone through again.
    PreNoise,
    /// What the upstream gradient is multiplied by on its way through ADC and noise.
    Slope,
    /// What tells the slope where there is relative noise alone, once ε is drawn again.
    Signs,
}

impl Residual {
    const ALL: [Self; 3] = [Self::PreNoise, Self::Slope, Self::Signs];

    /// From attribute `residual`; None is "none".
    pub(crate) fn from_attrs(op: &'static str, attrs: &dyn Attrs) -> Result<Option<Self>, Error> {
        let text = attrs.str(op, "residual")?;
        let residual = Self::ALL.into_iter().find(|residual| residual.name() == text);
        if residual.is_none() && text != "none" {
            let message = format!("`residual` must be none, pre_noise, slope or signs, got {text}");
            return Err(Error::invalid(op, message));
        }
        Ok(residual)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PreNoise => "pre_noise",
            Self::Slope => "slope",
            Self::Signs => "signs",
        }
    }

    /// Its type, where outputs are of type `out`.
    pub(crate) fn dtype(self, out: DType) -> DType {
        match self {
            Self::PreNoise | Self::Slope => out,
            Self::Signs => DType::I8,
        }
    }
}

/// What is handed on, and where it is.
#[derive(Clone, Copy)]
pub(crate) enum Saved<Floats, Bytes> {
    PreNoise(Floats),
    Slope(Floats),
    Signs(Bytes),
}

impl<Floats, Bytes> Saved<Floats, Bytes> {
    pub(crate) fn as_ref(&self) -> Saved<&Floats, &Bytes> {
        match self {
            Self::PreNoise(y) => Saved::PreNoise(y),
            Self::Slope(slope) => Saved::Slope(slope),
            Self::Signs(signs) => Saved::Signs(signs),
        }
    }

    /// The same kind in another place.
    pub(crate) fn map<F, B>(
        self,
        floats: impl FnOnce(Floats) -> F,
        bytes: impl FnOnce(Bytes) -> B,
    ) -> Saved<F, B> {
        match self {
            Self::PreNoise(y) => Saved::PreNoise(floats(y)),
            Self::Slope(slope) => Saved::Slope(floats(slope)),
            Self::Signs(signs) => Saved::Signs(bytes(signs)),
        }
    }
}

/// What stands in a residual of signs for a y that is 0, which has none.
pub(crate) const NO_SIGN: i8 = 2;
/// What stands there for an output whose slope is NaN.
pub(crate) const NO_SLOPE: i8 = i8::MIN;
