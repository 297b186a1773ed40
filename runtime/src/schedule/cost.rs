//! What products take in time and energy, by the formulas of `energy_report` in Python.

use super::products::Size;
use crate::Error;
use crate::ir::Device;

/// What products take, all their runs in a call together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cost {
    /// Multiply-accumulates.
    pub macs: u64,
    /// Times that a bank is given new weights.
    pub settings: u64,
    /// Turns, in which all banks work side by side.
    pub turns: u64,
    /// Conversions of inputs.
    pub input_conversions: u64,
    /// Conversions of weights.
    pub weight_conversions: u64,
    /// Conversions of outputs and of partial sums.
    pub output_conversions: u64,
    /// Cells of all banks in all turns.
    pub cells: u64,
    /// Time in which weights settle, s.
    pub settling_s: f64,
    /// All time, s, one product after the other.
    pub latency_s: f64,
    /// Energy by part.
    pub energy: Energy,
}

/// Energy by part, J.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Energy {
    /// DACs of the inputs.
    pub input_dacs_j: f64,
    /// Modulators of the inputs.
    pub modulators_j: f64,
    /// DACs of the weights.
    pub weight_dacs_j: f64,
    /// ADCs.
    pub adcs_j: f64,
    /// Lasers.
    pub lasers_j: f64,
    /// Heaters of the rings.
    pub ring_tuning_j: f64,
    /// Amplifiers of the outputs.
    pub amplifiers_j: f64,
}

impl Energy {
    /// The parts by their names in `energy_report`.
    pub fn parts(&self) -> [(&'static str, f64); 7] {
        [
            ("input DACs", self.input_dacs_j),
            ("modulators", self.modulators_j),
            ("weight DACs", self.weight_dacs_j),
            ("ADCs", self.adcs_j),
            ("lasers", self.lasers_j),
            ("ring tuning", self.ring_tuning_j),
            ("amplifiers", self.amplifiers_j),
        ]
    }

    /// Of all parts, J.
    pub fn total_j(&self) -> f64 {
        self.parts().iter().map(|(_, energy)| energy).sum()
    }
}

/// Bits of the converters of a layer; 0 is no converter.
#[derive(Clone, Copy)]
pub(super) struct Bits {
    pub(super) dac: u32,
    pub(super) weight: u32,
    pub(super) adc: u32,
}

impl Cost {
    /// Of `runs` runs of a product that is cut into `down` times `across` tiles.
    pub(super) fn of(
        device: &Device,
        runs: u64,
        size: Size,
        (down, across): (u64, u64),
        bits: Bits,
    ) -> Result<Self, Error> {
        let Size { rows, inputs, outputs, .. } = size;
        let count = |factors: &[u64]| -> Result<u64, Error> {
            let product = factors.iter().try_fold(1u64, |p, &f| p.checked_mul(f));
            product.ok_or_else(too_many)
        };
        let calls = count(&[runs, size.calls])?;
        let tiles = count(&[down, across])?;
        let turns = count(&[calls, tiles.div_ceil(device.banks.into())])?;
        let bank = [device.bank_rows, device.bank_columns, device.banks].map(u64::from);
        let input_conversions = count(&[calls, rows, inputs, across])?;
        let weight_conversions = count(&[calls, inputs, outputs])?;
        let output_conversions = count(&[calls, rows, outputs, down])?;
        let settling_s = turns as f64 * device.settling_s;
        let latency_s = settling_s + turns as f64 * (rows as f64 / device.symbol_rate_hz);
        let on = latency_s * f64::from(device.banks);
        let (inputs_of_bank, outputs_of_bank) =
            (f64::from(device.bank_rows), f64::from(device.bank_columns));
        Ok(Self {
            macs: count(&[calls, rows, inputs, outputs])?,
            settings: count(&[calls, tiles])?,
            turns,
            input_conversions,
            weight_conversions,
            output_conversions,
            cells: count(&[turns, bank[0], bank[1], bank[2]])?,
            settling_s,
            latency_s,
            energy: Energy {
                input_dacs_j: input_conversions as f64 * conversion(bits.dac, device.dac_fom_j),
                modulators_j: input_conversions as f64 * device.modulator_j,
                weight_dacs_j: weight_conversions as f64
                    * conversion(bits.weight, device.dac_fom_j),
                adcs_j: output_conversions as f64 * conversion(bits.adc, device.adc_fom_j),
                lasers_j: on * inputs_of_bank * device.laser_w,
                ring_tuning_j: on * inputs_of_bank * (outputs_of_bank + 1.0) * device.ring_w,
                amplifiers_j: on * outputs_of_bank * device.amplifier_w,
            },
        })
    }

    /// Of several, one after the other.
    pub(super) fn sum<'a>(costs: impl Iterator<Item = &'a Self>) -> Result<Self, Error> {
        let mut sum = Self::default();
        for cost in costs {
            for (total, count) in [
                (&mut sum.macs, cost.macs),
                (&mut sum.settings, cost.settings),
                (&mut sum.turns, cost.turns),
                (&mut sum.input_conversions, cost.input_conversions),
                (&mut sum.weight_conversions, cost.weight_conversions),
                (&mut sum.output_conversions, cost.output_conversions),
                (&mut sum.cells, cost.cells),
            ] {
                *total = total.checked_add(count).ok_or_else(too_many)?;
            }
            let (all, one) = (&mut sum.energy, &cost.energy);
            for (total, figure) in [
                (&mut sum.settling_s, cost.settling_s),
                (&mut sum.latency_s, cost.latency_s),
                (&mut all.input_dacs_j, one.input_dacs_j),
                (&mut all.modulators_j, one.modulators_j),
                (&mut all.weight_dacs_j, one.weight_dacs_j),
                (&mut all.adcs_j, one.adcs_j),
                (&mut all.lasers_j, one.lasers_j),
                (&mut all.ring_tuning_j, one.ring_tuning_j),
                (&mut all.amplifiers_j, one.amplifiers_j),
            ] {
                *total += figure;
            }
        }
        Ok(sum)
    }

    /// Energy of giving the banks new weights: their DACs, and all that is on while they settle, J.
    pub fn reprogramming_j(&self) -> f64 {
        let Energy { lasers_j, ring_tuning_j, amplifiers_j, .. } = self.energy;
        let share = if self.latency_s > 0.0 { self.settling_s / self.latency_s } else { 0.0 };
        self.energy.weight_dacs_j + share * (lasers_j + ring_tuning_j + amplifiers_j)
    }

    /// Part of the cells of all banks, over all turns, that holds a weight; None without any turn.
    pub fn utilization(&self) -> Option<f64> {
        (self.cells > 0).then(|| self.weight_conversions as f64 / self.cells as f64)
    }
}

/// Energy of one conversion, J: figure of merit times 2^bits (Walden); none without a converter.
fn conversion(bits: u32, fom_j: f64) -> f64 {
    if bits == 0 { 0.0 } else { fom_j * f64::from(bits).exp2() }
}

pub(super) fn too_many() -> Error {
    Error::Input("these extents make more than 2^64 conversions or products".into())
}
