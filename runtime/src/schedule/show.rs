//! A schedule for programs and for people.

use std::fmt::{self, Write};

use serde_json::{Map, Value, json};

use super::{BusCrosstalk, Converter, Cost, EntrySchedule, FullScale, Layer, Schedule};
use crate::inspect::printable;
use crate::ir::Device;

/// Characters of the name of a layer in a table.
const NAME: usize = 32;

impl Schedule {
    /// All of it as JSON: SI units, the keys being the names of the fields.
    ///
    /// The passes of a layer follow from its tiles: pass p of D times A holds tile (p mod D, p div D)
    /// where inputs come first and tile (p div A, p mod A) where outputs do, on bank p mod banks.
    pub fn to_json(&self) -> Value {
        json!({
            "device": device_json(&self.device),
            "wavelengths_nm": self.wavelengths_nm,
            "crosstalk": self.crosstalk.as_ref().map(crosstalk_json),
            "entries": self.entries.iter().map(|entry| self.entry_json(entry)).collect::<Vec<_>>(),
        })
    }

    fn entry_json(&self, entry: &EntrySchedule) -> Value {
        let symbols: Map<String, Value> =
            entry.symbols.iter().map(|(name, size)| (name.clone(), json!(size))).collect();
        json!({
            "name": entry.name,
            "symbols": symbols,
            "notes": entry.notes(self.crosstalk.as_ref()),
            "layers": entry.layers.iter().map(layer_json).collect::<Vec<_>>(),
            "totals": cost_json(&entry.totals),
        })
    }

    /// The schedule as tables.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        out.push_str(&describe_device(&self.device, &self.wavelengths_nm));
        if let Some(crosstalk) = &self.crosstalk {
            writeln!(out, "{}", describe_crosstalk(crosstalk))?;
        }
        for entry in &self.entries {
            if self.entries.len() > 1 {
                writeln!(out, "\nentry point {}", printable(&entry.name))?;
            }
            for note in entry.notes(self.crosstalk.as_ref()) {
                writeln!(out, "{note}")?;
            }
            write_entry(out, entry)?;
        }
        Ok(())
    }
}

/// The fields of a device.
pub(crate) fn device_json(device: &Device) -> Value {
    json!({
        "name": device.name,
        "bank_rows": device.bank_rows,
        "bank_columns": device.bank_columns,
        "banks": device.banks,
        "symbol_rate_hz": device.symbol_rate_hz,
        "settling_s": device.settling_s,
        "dac_bits": device.dac_bits,
        "weight_bits": device.weight_bits,
        "adc_bits": device.adc_bits,
        "dac_fom_j": device.dac_fom_j,
        "adc_fom_j": device.adc_fom_j,
        "modulator_j": device.modulator_j,
        "laser_w": device.laser_w,
        "ring_w": device.ring_w,
        "amplifier_w": device.amplifier_w,
    })
}

/// The fields of crosstalk.
pub(crate) fn crosstalk_json(crosstalk: &BusCrosstalk) -> Value {
    json!({
        "size": crosstalk.size,
        "matrix": crosstalk.matrix.chunks(crosstalk.size.max(1)).collect::<Vec<_>>(),
        "compensation": crosstalk.compensation,
        "condition_number": crosstalk.condition_number,
    })
}

fn layer_json(layer: &Layer) -> Value {
    let (down, across) = layer.tiles();
    json!({
        "name": layer.name,
        "op": layer.op,
        "source": layer.source,
        "place": layer.place,
        "is_counted": layer.is_counted,
        "runs": layer.runs,
        "calls": layer.calls,
        "rows": layer.rows,
        "inputs": layer.inputs,
        "outputs": layer.outputs,
        "tile_rows": layer.tile_rows,
        "tile_columns": layer.tile_columns,
        "tiles": [down, across],
        "order": layer.order.words(),
        "array_rows": layer.array_rows,
        "slots": layer.slots,
        "dac": converter_json(&layer.dac),
        "weight_dac": converter_json(&layer.weight_dac),
        "adc": converter_json(&layer.adc),
        "cost": cost_json(&layer.cost),
    })
}

fn converter_json(converter: &Converter) -> Value {
    let full_scale = match converter.full_scale {
        FullScale::Constant { least, largest } => json!([least, largest]),
        FullScale::Found => json!("found"),
        FullScale::Computed => json!("computed"),
    };
    json!({ "bits": converter.bits, "full_scale": full_scale })
}

fn cost_json(cost: &Cost) -> Value {
    let parts: Map<String, Value> =
        cost.energy.parts().iter().map(|(part, joule)| (part.to_string(), json!(joule))).collect();
    json!({
        "macs": cost.macs,
        "settings": cost.settings,
        "turns": cost.turns,
        "input_conversions": cost.input_conversions,
        "weight_conversions": cost.weight_conversions,
        "output_conversions": cost.output_conversions,
        "utilization": cost.utilization(),
        "settling_s": cost.settling_s,
        "latency_s": cost.latency_s,
        "reprogramming_j": cost.reprogramming_j(),
        "total_j": cost.energy.total_j(),
        "energy_j": parts,
    })
}

/// A device in words.
pub(crate) fn describe_device(device: &Device, wavelengths_nm: &[f64]) -> String {
    let (rows, columns) = (device.bank_rows, device.bank_columns);
    let mut text = format!(
        "device {}: {} of {rows} inputs x {columns} outputs, {}, weights settle in {}\n",
        printable(&device.name),
        counted(device.banks.into(), "bank"),
        si(device.symbol_rate_hz, "Hz"),
        si(device.settling_s, "s"),
    );
    if let (Some(first), Some(last)) = (wavelengths_nm.first(), wavelengths_nm.last()) {
        let count = counted(wavelengths_nm.len() as u64, "wavelength");
        text += &format!("{count} on a bus, from {first:.3} nm on slot 0 to {last:.3} nm\n");
    }
    text
}

/// Crosstalk in words.
pub(crate) fn describe_crosstalk(crosstalk: &BusCrosstalk) -> String {
    let compensation = match crosstalk.compensation.as_str() {
        "none" => "not compensated".into(),
        mode => format!("compensated by {mode}"),
    };
    let condition =
        crosstalk.condition_number.map(|number| format!(", condition number {number:.4}"));
    let condition = condition.unwrap_or_default();
    format!("crosstalk among {} slots, {compensation}{condition}", crosstalk.size)
}

fn write_entry(out: &mut String, entry: &EntrySchedule) -> fmt::Result {
    for (name, size) in &entry.symbols {
        writeln!(out, "{} = {size}", printable(name))?;
    }
    writeln!(
        out,
        "\n{:<5}{:<33}{:<24}{:>8}{:>10}{:>10}{:>8}{:>11}{:>11}",
        "",
        "layer",
        "rows x inputs x outputs",
        "tiles",
        "settings",
        "reuse",
        "used",
        "latency",
        "energy"
    )?;
    for (index, layer) in entry.layers.iter().enumerate() {
        let (down, across) = layer.tiles();
        let mut name: String = printable(&layer.name).chars().take(NAME).collect();
        if !layer.is_counted {
            name = format!("({name})");
        }
        writeln!(
            out,
            "{index:<5}{name:<33}{:<24}{:>8}{:>10}{:>10}{:>8}{:>11}{:>11}",
            format!("{} x {} x {}", layer.rows, layer.inputs, layer.outputs),
            format!("{down} x {across}"),
            layer.cost.settings,
            counted(layer.rows, "row"),
            percent(layer.cost.utilization()),
            si(layer.cost.latency_s, "s"),
            si(layer.cost.energy.total_j(), "J"),
        )?;
    }
    let totals = &entry.totals;
    let (settling, latency) = (totals.settling_s, totals.latency_s);
    let share = |part: f64, whole: f64| percent((whole > 0.0).then(|| part / whole));
    let total_j = totals.energy.total_j();
    writeln!(
        out,
        "{:<5}{:<57}{:>8}{:>10}{:>10}{:>8}{:>11}{:>11}",
        "",
        "total",
        "",
        totals.settings,
        "",
        percent(totals.utilization()),
        si(latency, "s"),
        si(total_j, "J")
    )?;
    if entry.layers.iter().any(|layer| !layer.is_counted) {
        writeln!(out, "(…): a branch that the total leaves out, as another has fewer products")?;
    }
    writeln!(
        out,
        "\n{} of the banks in {}, of which weights settle in {} ({}) and take {} ({})",
        counted(totals.settings, "setting"),
        counted(totals.turns, "turn"),
        si(settling, "s"),
        share(settling, latency),
        si(totals.reprogramming_j(), "J"),
        share(totals.reprogramming_j(), total_j),
    )?;
    writeln!(
        out,
        "conversions: {} of inputs, {} of weights, {} of outputs; {} multiply-accumulates",
        totals.input_conversions, totals.weight_conversions, totals.output_conversions, totals.macs
    )?;
    for (part, joule) in totals.energy.parts() {
        writeln!(out, "  {part:<14}{:>11}{:>9}", si(joule, "J"), share(joule, total_j))?;
    }
    Ok(())
}

/// A number with its noun: "1 bank", "2 banks".
fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn percent(part: Option<f64>) -> String {
    part.map_or("-".into(), |part| format!("{:.1} %", 100.0 * part))
}

/// Three digits and a prefix: 1.23 pJ.
fn si(value: f64, unit: &str) -> String {
    const PREFIXES: [&str; 13] = ["a", "f", "p", "n", "µ", "m", "", "k", "M", "G", "T", "P", "E"];
    if value == 0.0 {
        return format!("0 {unit}");
    }
    // What rounds up to 1000 has the next prefix.
    let exponent = ((value.abs().log10() + 2.2e-4) / 3.0).floor().clamp(-6.0, 6.0) as i32;
    let scaled = value / 1000f64.powi(exponent);
    let digits = match scaled.abs() {
        x if x < 9.995 => 2,
        x if x < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.digits$} {}{unit}", PREFIXES[(exponent + 6) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_three_digits_and_a_prefix() {
        for (value, text) in [
            (0.0, "0 J"),
            (1.0, "1.00 J"),
            (9.994e-12, "9.99 pJ"),
            (99.96e-12, "100 pJ"),
            (999.6, "1.00 kJ"),
            (1.2345e-3, "1.23 mJ"),
            (12.345, "12.3 J"),
            (5e-324, "0.00 aJ"),
            (2.5e19, "25.0 EJ"),
        ] {
            assert_eq!(si(value, "J"), text);
        }
    }
}
