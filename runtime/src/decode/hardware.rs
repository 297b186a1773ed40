//! The device of a file, and how it runs the products of a node.

use super::decoder::{ALLOCATION, Decoder};
use super::node::dim;
use super::wire::{Fields, fault};
use crate::Error;
use crate::ir::{Crosstalk, Device, Execution, Order, Product, Wdm};

pub(super) fn device(decoder: &mut Decoder, message: &[u8]) -> Result<Device, Error> {
    let mut device = Device {
        name: String::new(),
        bank_rows: 0,
        bank_columns: 0,
        banks: 0,
        symbol_rate_hz: 0.0,
        settling_s: 0.0,
        dac_bits: 0,
        weight_bits: 0,
        adc_bits: 0,
        dac_fom_j: 0.0,
        adc_fom_j: 0.0,
        modulator_j: 0.0,
        laser_w: 0.0,
        ring_w: 0.0,
        amplifier_w: 0.0,
    };
    for field in Fields(message) {
        let field = field?;
        match field.number {
            1 => device.name = decoder.text(field)?,
            2 => device.bank_rows = field.varint()? as u32,
            3 => device.bank_columns = field.varint()? as u32,
            4 => device.banks = field.varint()? as u32,
            5 => device.symbol_rate_hz = field.f64()?,
            6 => device.settling_s = field.f64()?,
            7 => device.dac_bits = field.varint()? as u32,
            8 => device.weight_bits = field.varint()? as u32,
            9 => device.adc_bits = field.varint()? as u32,
            10 => device.dac_fom_j = field.f64()?,
            11 => device.adc_fom_j = field.f64()?,
            12 => device.modulator_j = field.f64()?,
            13 => device.laser_w = field.f64()?,
            14 => device.ring_w = field.f64()?,
            15 => device.amplifier_w = field.f64()?,
            _ => {}
        }
    }
    Ok(device)
}

pub(super) fn execution(decoder: &mut Decoder, message: &[u8]) -> Result<Execution, Error> {
    Ok(Execution { products: decoder.messages(message, 1, product)? })
}

fn product(decoder: &mut Decoder, index: usize, message: &[u8]) -> Result<Product, Error> {
    decoder.charge(ALLOCATION)?;
    let (mut layer, mut inputs, mut outputs) = (String::new(), None, None);
    let (mut tile_rows, mut tile_columns, mut order) = (0, 0, 0);
    let mut slots = Vec::new();
    for field in Fields(message) {
        let field = field?;
        match field.number {
            1 => layer = decoder.text(field)?,
            2 => inputs = Some(field.only(inputs)?),
            3 => outputs = Some(field.only(outputs)?),
            4 => tile_rows = field.varint()? as u32,
            5 => tile_columns = field.varint()? as u32,
            6 => order = field.varint()? as i32,
            7 => decoder.numbers(field, &mut slots, |slot| slot as u32)?,
            _ => {}
        }
    }
    let order = match order {
        0 => Order::InputsFirst,
        1 => Order::OutputsFirst,
        _ => {
            return fault(format!("product {index} of an execution has the unknown order {order}"));
        }
    };
    let mut extent = |message: Option<&[u8]>| dim(decoder, 0, message.unwrap_or_default());
    let (inputs, outputs) = (extent(inputs)?, extent(outputs)?);
    Ok(Product { layer, inputs, outputs, tile_rows, tile_columns, order, slots })
}

pub(super) fn wdm(decoder: &mut Decoder, message: &[u8]) -> Result<Wdm, Error> {
    let mut wdm = Wdm { wavelengths_nm: Vec::new(), slot_of_stream: Vec::new() };
    for field in Fields(message) {
        let field = field?;
        match field.number {
            1 => decoder.doubles(field, &mut wdm.wavelengths_nm)?,
            2 => decoder.numbers(field, &mut wdm.slot_of_stream, |slot| slot as u32)?,
            _ => {}
        }
    }
    Ok(wdm)
}

pub(super) fn crosstalk(decoder: &mut Decoder, message: &[u8]) -> Result<Crosstalk, Error> {
    let mut crosstalk = Crosstalk {
        size: 0,
        matrix: Vec::new(),
        compensation: String::new(),
        condition_number: 0.0,
    };
    for field in Fields(message) {
        let field = field?;
        match field.number {
            1 => crosstalk.size = field.varint()? as u32,
            2 => decoder.floats(field, &mut crosstalk.matrix)?,
            3 => crosstalk.compensation = decoder.text(field)?,
            4 => crosstalk.condition_number = field.f64()?,
            _ => {}
        }
    }
    Ok(crosstalk)
}
