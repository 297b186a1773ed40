//! Attention whose two products are optical, without noise.

use super::builder::Builder;
use super::call::{Call, Value, one};
use super::optical::Converter;

/// See the op of that name of the kernels.
pub(super) fn emit(b: &mut Builder<'_>, call: &Call<'_>) -> Result<Option<Vec<Value>>, String> {
    if call.node.op != "optical_attention" {
        return Ok(None);
    }
    if call.bool("with_peaks")? {
        return Err("it gives the peaks that calibration asks for: export it without".into());
    }
    let [q, k, v] = [0, 1, 2].map(|index| &call.inputs[index]);
    let (dac, adc) = (Converter::of(call, "dac_bits")?, Converter::of(call, "adc_bits")?);
    // From [batch, time, head, feature] to [batch, head, time, feature].
    let [queries, keys, values] = [q, k, v].map(|value| b.transpose(&value.name, &[0, 2, 1, 3]));
    let seen = b.unsqueeze(call.input(3), &[3]);
    let scale = b.unsqueeze(call.input(4), &[1, 2, 3]);
    let length = b.extent_of(k, 1);
    // What no query of a head sees is in no range.
    let most = b.reduce("ReduceMax", call.input(3), &[2], true);
    let is_used = b.is_before(&most, &length);
    let is_used = b.unsqueeze(&is_used, &[3]);
    let range = |b: &mut Builder<'_>, name: &str, given: usize, is_masked: bool| {
        let given = &call.inputs[given];
        if given.fact.shape[0] != 0 {
            return b.unsqueeze(&given.name, &[2, 3]);
        }
        let mut name = name.to_owned();
        if is_masked {
            let zero = b.f32(0.0);
            name = b.op("Where", &[&is_used, &name, &zero], vec![]);
        }
        let magnitude = b.op("Abs", &[&name], vec![]);
        b.reduce("ReduceMax", &magnitude, &[2, 3], true)
    };
    let q_range = range(b, &queries, 5, false);
    let k_range = range(b, &keys, 6, true);
    let p_range = range(b, "", 7, false);
    let v_range = range(b, &values, 8, true);
    let scores_range = range(b, "", 9, false);
    let out_range = range(b, "", 10, false);
    let q_codes = dac.codes(b, &queries, &q_range);
    let k_codes = dac.codes(b, &keys, &k_range);
    let steps = b.steps(&q_codes, &k_codes);
    let turned = b.transpose(&k_codes.name, &[0, 1, 3, 2]);
    let product = b.op("MatMul", &[&q_codes.name, &turned], vec![]);
    let scores = b.read_out(product, steps.as_deref(), None, adc, &scores_range);
    let scores = b.op("Mul", &[&scores, &scale], vec![]);
    let weights = b.softmax_of_first(&scores, &seen, &length);
    let p_codes = dac.codes(b, &weights, &p_range);
    let v_codes = dac.codes(b, &values, &v_range);
    let steps = b.steps(&p_codes, &v_codes);
    let product = b.op("MatMul", &[&p_codes.name, &v_codes.name], vec![]);
    let out = b.read_out(product, steps.as_deref(), None, adc, &out_range);
    // One that sees nothing is 0, also where the ADC has no such level.
    let zero = b.constant(super::proto::element::INT32, &[], 0i32.to_le_bytes().into());
    let sees = b.op("Greater", &[&seen, &zero], vec![]);
    let nothing = b.f32(0.0);
    let out = b.op("Where", &[&sees, &out, &nothing], vec![]);
    one(b.transpose(&out, &[0, 2, 1, 3]))
}
