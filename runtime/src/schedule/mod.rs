//! What the photonic processor of a file does in a call: which weights its banks hold when, and what
//! that takes in time and energy. Nothing of it changes what a run computes.

pub(crate) mod check;
mod condition;
mod cost;
mod products;
mod ranges;
pub(crate) mod show;
mod walk;

use std::ops::Range;

pub use cost::{Cost, Energy};
pub use ranges::{Converter, FullScale};

use crate::extents::{Shapes, check_given, shapes, unfit};
use crate::infer::infer;
use crate::ir::{Crosstalk, Device, Module, Order};
use crate::validate::of_entry;
use crate::{Error, Model};

/// What the processor of a file does, for extents of one size.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The processor.
    pub device: Device,
    /// Vacuum wavelength of each slot of a bus, nm.
    pub wavelengths_nm: Vec<f64>,
    /// Crosstalk among the slots, where the file has some.
    pub crosstalk: Option<BusCrosstalk>,
    /// One call of each entry point.
    pub entries: Vec<EntrySchedule>,
}

/// Crosstalk among the slots of a bus.
#[derive(Clone, Debug)]
pub struct BusCrosstalk {
    /// Slots that see each other; where a bus has more, they are in groups of so many.
    pub size: usize,
    /// size x size, row-major: part of the power on slot j that the ring of slot i lets through.
    pub matrix: Vec<f32>,
    /// How the weights in the file undo it: "none", "fold", "readout", "wiener" or "feedback".
    pub compensation: String,
    /// The largest singular value over the least, where the file gives it.
    pub condition_number: Option<f64>,
}

/// One call of an entry point.
#[derive(Clone, Debug)]
pub struct EntrySchedule {
    /// Its name; the only one of a file may have none.
    pub name: String,
    /// What the symbolic extents are taken for.
    pub symbols: Vec<(String, u64)>,
    /// The products, in the order in which they run.
    pub layers: Vec<Layer>,
    /// Of all layers that count.
    pub totals: Cost,
}

/// One product of a node, x\[rows, inputs\] times w\[inputs, outputs\], `calls` times in a run of it.
#[derive(Clone, Debug)]
pub struct Layer {
    /// What the plan calls it, or the module that it comes from, or its op.
    pub name: String,
    /// Name of the op.
    pub op: String,
    /// Where the node comes from: "model.py:12 (Dense_0)".
    pub source: String,
    /// Where the node is in the file: "node 3".
    pub place: String,
    /// Whether the totals have it. Of the branches of a `cond` they have the one of fewest products.
    pub is_counted: bool,
    /// How often the node runs in a call, which is more than once in a `scan`. A `while` counts as one
    /// trip.
    pub runs: u64,
    /// Products in a run, as of the groups of a convolution or the heads of attention.
    pub calls: u64,
    /// Vectors of x that pass through each setting of a bank.
    pub rows: u64,
    /// Inputs.
    pub inputs: u64,
    /// Outputs.
    pub outputs: u64,
    /// Inputs of a tile.
    pub tile_rows: u32,
    /// Outputs of a tile.
    pub tile_columns: u32,
    /// In which order the tiles come.
    pub order: Order,
    /// Inputs of the arrays that the runtime computes with; None where one takes all.
    pub array_rows: Option<u64>,
    /// Slot of each input; None: its place in its tile.
    pub slots: Option<Vec<u32>>,
    /// The converters of x.
    pub dac: Converter,
    /// Those of the weights.
    pub weight_dac: Converter,
    /// Those of the outputs.
    pub adc: Converter,
    /// What all its runs in a call take.
    pub cost: Cost,
}

/// One setting of one bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Number of the turn, in which all banks work side by side.
    pub turn: u64,
    /// Number of the bank.
    pub bank: u32,
    /// The inputs whose weights it holds.
    pub inputs: Range<u64>,
    /// The outputs whose weights it holds.
    pub outputs: Range<u64>,
}

impl BusCrosstalk {
    pub(crate) fn of(crosstalk: &Crosstalk) -> Self {
        Self {
            size: crosstalk.size as usize,
            matrix: crosstalk.matrix.clone(),
            compensation: crosstalk.compensation.clone(),
            condition_number: Some(crosstalk.condition_number).filter(|&number| number > 0.0),
        }
    }
}

impl Layer {
    /// Tiles along the inputs, and along the outputs.
    pub fn tiles(&self) -> (u64, u64) {
        (
            self.inputs.div_ceil(self.tile_rows.into()),
            self.outputs.div_ceil(self.tile_columns.into()),
        )
    }

    /// The settings of the banks in one of its calls, on a processor of so many banks, in order.
    pub fn passes(&self, banks: u32) -> impl Iterator<Item = Pass> {
        let (down, across) = self.tiles();
        let (rows, columns) = (u64::from(self.tile_rows), u64::from(self.tile_columns));
        let (inputs, outputs, order) = (self.inputs, self.outputs, self.order);
        (0..down.saturating_mul(across)).map(move |pass| {
            let (i, j) = match order {
                Order::InputsFirst => (pass % down, pass / down),
                Order::OutputsFirst => (pass / across, pass % across),
            };
            Pass {
                turn: pass / u64::from(banks),
                bank: (pass % u64::from(banks)) as u32,
                inputs: i * rows..inputs.min((i + 1) * rows),
                outputs: j * columns..outputs.min((j + 1) * columns),
            }
        })
    }

    /// The slot of an input.
    pub fn slot(&self, input: u64) -> u64 {
        match &self.slots {
            Some(slots) => slots[input as usize].into(),
            None => input % u64::from(self.tile_rows),
        }
    }
}

impl EntrySchedule {
    /// Sentences on what differs between the processor and what the runtime computes.
    pub fn notes(&self, crosstalk: Option<&BusCrosstalk>) -> Vec<String> {
        let mut notes = vec![self.simulated()];
        let cuts = |layer: &Layer, size: u64| {
            layer.inputs > size && !u64::from(layer.tile_rows).is_multiple_of(size)
        };
        if let Some(size) = crosstalk.map(|crosstalk| crosstalk.size as u64)
            && let Some(layer) = self.layers.iter().find(|layer| size > 0 && cuts(layer, size))
        {
            notes.push(format!(
                "crosstalk is among {size} neighboring inputs, but tiles of {} inputs cut such groups",
                layer.tile_rows
            ));
        }
        notes
    }

    /// Whether the runtime computes with the tiles of the processor, in a sentence.
    fn simulated(&self) -> String {
        let is_other = |layer: &Layer| {
            let rows = u64::from(layer.tile_rows);
            layer.inputs > rows && layer.array_rows != Some(rows)
        };
        let layers = self.layers.iter().enumerate().filter(|(_, layer)| is_other(layer));
        let others: Vec<String> = layers.map(|(index, _)| index.to_string()).collect();
        if others.is_empty() {
            return "the array is the one that layers simulate: each part of an output is read once"
                .into();
        }
        format!(
            "not the array that layers simulate: layers {} are read in more parts on the device, each \
             with its noise and its ADC; train them with `bank.rows` of the device",
            others.join(", ")
        )
    }
}

impl Model {
    /// What the processor of the file does in a call, where the symbolic extents have these sizes: as in
    /// the first test vector where none is given, or 1.
    ///
    /// The errors are a file that was written for no processor or has a wrong condition number, a name
    /// that is no symbol or has two sizes, and sizes that the graph does not take.
    pub fn schedule(&self, symbols: &[(String, u64)]) -> Result<Schedule, Error> {
        let module = self.module();
        let Some(device) = &module.device else { return Err(Error::NoSchedule) };
        self.check_condition_number()?;
        check_given(module.entries.iter(), symbols)?;
        let entries = module.entries.iter().enumerate().map(|(entry, graph)| {
            self.entry_schedule(device, entry, symbols)
                .map_err(|error| of_entry(module, graph, error))
        });
        Ok(scheduled(module, device, entries.collect::<Result<_, _>>()?))
    }

    /// As [`Model::schedule`], of the entry point of that number alone.
    #[cfg(feature = "report")]
    pub(crate) fn schedule_of(
        &self,
        entry: usize,
        symbols: &[(String, u64)],
    ) -> Result<Schedule, Error> {
        let module = self.module();
        let Some(device) = &module.device else { return Err(Error::NoSchedule) };
        let entry = self.entry_schedule(device, entry, symbols)?;
        Ok(scheduled(module, device, vec![entry]))
    }

    fn entry_schedule(
        &self,
        device: &Device,
        entry: usize,
        given: &[(String, u64)],
    ) -> Result<EntrySchedule, Error> {
        let graph = self.graph(entry)?;
        let Shapes { facts, extents, symbols } = shapes(self, entry, given)?;
        let inference = infer(graph, &symbols, &facts).map_err(|error| unfit(error, &extents))?;
        let layers = walk::layers(self, device, graph, &symbols, &inference)?;
        let counted = layers.iter().filter(|layer| layer.is_counted);
        let totals = Cost::sum(counted.map(|layer| &layer.cost))?;
        let symbols = extents.into_iter().map(|extent| (extent.name, extent.value)).collect();
        Ok(EntrySchedule { name: graph.name.clone(), symbols, layers, totals })
    }
}

fn scheduled(module: &Module, device: &Device, entries: Vec<EntrySchedule>) -> Schedule {
    Schedule {
        device: device.clone(),
        wavelengths_nm: module.wdm.as_ref().map_or(vec![], |wdm| wdm.wavelengths_nm.clone()),
        crosstalk: module.crosstalk.as_ref().map(BusCrosstalk::of),
        entries,
    }
}
