//! The processor that a file was written for, and how it runs the products of a node.

use super::Dim;

/// A photonic processor, as far as time and energy follow from it.
///
/// A bank of weights has a wavelength for each input, a ring for each weight and one more for each
/// input, and an amplifier for each output; all are on all the time.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Name of its profile.
    pub name: String,
    /// Inputs of one bank.
    pub bank_rows: u32,
    /// Outputs of one bank.
    pub bank_columns: u32,
    /// Banks that work side by side.
    pub banks: u32,
    /// Vectors per second that pass through a bank, Hz.
    pub symbol_rate_hz: f64,
    /// Time in which new weights settle, s.
    pub settling_s: f64,
    /// Bits of input DACs of which a node says nothing; 0 is no converter.
    pub dac_bits: u32,
    /// The same of the DACs of weights.
    pub weight_bits: u32,
    /// The same of the ADCs.
    pub adc_bits: u32,
    /// Figure of merit of the DACs: a conversion of b bits takes 2^b times as much, J.
    pub dac_fom_j: f64,
    /// The same of the ADCs, J.
    pub adc_fom_j: f64,
    /// Modulator and its driver, of each input that is converted, J.
    pub modulator_j: f64,
    /// Electrical power of the laser of one wavelength, W.
    pub laser_w: f64,
    /// Heater of one ring, W.
    pub ring_w: f64,
    /// Amplifier of one output, W.
    pub amplifier_w: f64,
}

/// In which order the tiles of a product come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// All inputs of some outputs, then those of the next.
    InputsFirst,
    /// All outputs of some inputs, then those of the next.
    OutputsFirst,
}

impl Order {
    /// In words: "inputs first".
    pub fn words(self) -> &'static str {
        match self {
            Self::InputsFirst => "inputs first",
            Self::OutputsFirst => "outputs first",
        }
    }
}

/// The products that a node is, in the order in which they run.
#[derive(Clone, Debug)]
pub(crate) struct Execution {
    pub(crate) products: Vec<Product>,
}

/// One product of a matrix of weights, cut into tiles.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    /// What the plan of wavelengths calls it; empty without one.
    pub(crate) layer: String,
    pub(crate) inputs: Dim,
    pub(crate) outputs: Dim,
    pub(crate) tile_rows: u32,
    pub(crate) tile_columns: u32,
    pub(crate) order: Order,
    /// Slot of each input; none: its place in its tile.
    pub(crate) slots: Vec<u32>,
}

/// The slots of a bus.
#[derive(Clone, Debug)]
pub(crate) struct Wdm {
    pub(crate) wavelengths_nm: Vec<f64>,
    /// Index of the wavelength of each stream.
    pub(crate) slot_of_stream: Vec<u32>,
}

/// Crosstalk among the slots of a bus.
#[derive(Clone, Debug)]
pub(crate) struct Crosstalk {
    pub(crate) size: u32,
    /// size x size, row-major.
    pub(crate) matrix: Vec<f32>,
    pub(crate) compensation: String,
    /// 0 where it is not given.
    pub(crate) condition_number: f64,
}
