//! Convolutions and windows. ONNX has the images first, then the channels.

use lumina_kernels::DType;

use super::builder::Builder;
use super::call::{Call, Value, one};
use super::proto::Attribute;

pub(super) fn emit(b: &mut Builder<'_>, call: &Call<'_>) -> Result<Option<Vec<Value>>, String> {
    match call.node.op.as_str() {
        "conv_general_dilated" => one(convolution(b, call)?),
        "fused_conv_general_dilated" => {
            let product = convolution(b, call)?;
            b.finished(product, &call.inputs[2..], &call.text("activation")?)
        }
        "reduce_window_max" => one(max_pool(b, call, false)?),
        "reduce_window_min" => one(max_pool(b, call, true)?),
        "reduce_window_sum" => one(sum_pool(b, call)?),
        _ => Ok(None),
    }
}

fn convolution(b: &mut Builder<'_>, call: &Call<'_>) -> Result<String, String> {
    let [x, kernel] = [&call.inputs[0], &call.inputs[1]];
    if x.dtype() != DType::F32 {
        return Err(format!("no op of ONNX has a convolution of {}", x.dtype()));
    }
    if call.int("batch_group_count")? != 1 {
        return Err("ONNX has no groups of images".into());
    }
    let image = b.transpose(&x.name, &call.ints("lhs_spec")?);
    let spec = call.ints("rhs_spec")?;
    let mut weights = b.transpose(&kernel.name, &spec);
    let (strides, groups) = (call.ints("window_strides")?, call.int("feature_group_count")?);
    let (low, high) = (call.numbers("low")?, call.numbers("high")?);
    let (spread, dilations) = (call.ints("lhs_dilation")?, call.ints("rhs_dilation")?);
    let spatial = strides.len();
    if spatial == 0 {
        return Err("it has no axis of space".into());
    }
    let out = if spread.iter().all(|&dilation| dilation == 1) {
        let window = Window { strides, dilations, low, high };
        b.conv(&image, &weights, &window, groups)
    } else {
        // A convolution of a spread image is the transposed one, whose kernel is backwards and has the
        // channels of the image first.
        if strides.iter().any(|&stride| stride != 1) {
            return Err("no op of ONNX has strides and spreads the image".into());
        }
        if groups != 1 {
            return Err("a transposed convolution must have one group".into());
        }
        let axes: Vec<i64> = (2..2 + spatial as i64).collect();
        weights = b.reverse(&weights, &axes);
        let mut permutation: Vec<i64> = (0..2 + spatial as i64).collect();
        permutation.swap(0, 1);
        weights = b.transpose(&weights, &permutation);
        let mut pads = vec![0; 2 * spatial];
        let mut further = vec![0; spatial];
        for index in 0..spatial {
            let taps = kernel.extent(spec[2 + index] as usize)?;
            let reach = dilations[index].saturating_mul(taps - 1);
            let before = reach.saturating_sub(low[index]);
            let after = reach.saturating_sub(high[index]);
            if before < 0 {
                return Err("its padding is wider than the kernel reaches".into());
            }
            pads[index] = before;
            pads[spatial + index] = after.max(0);
            further[index] = after.saturating_neg().max(0);
            if further[index] >= spread[index] {
                return Err("its padding is wider than the kernel reaches".into());
            }
        }
        let attributes = vec![
            Attribute::ints("strides", spread),
            Attribute::ints("dilations", dilations),
            Attribute::ints("pads", pads),
            Attribute::ints("output_padding", further),
        ];
        b.op("ConvTranspose", &[&image, &weights], attributes)
    };
    Ok(b.transpose(&out, &inverse(&call.ints("out_spec")?)))
}

/// The permutation that undoes it.
fn inverse(permutation: &[i64]) -> Vec<i64> {
    let mut inverse = vec![0; permutation.len()];
    for (index, &axis) in permutation.iter().enumerate() {
        inverse[axis as usize] = index as i64;
    }
    inverse
}

/// Where windows lie, along each axis of space.
pub(super) struct Window {
    pub(super) strides: Vec<i64>,
    pub(super) dilations: Vec<i64>,
    pub(super) low: Vec<i64>,
    pub(super) high: Vec<i64>,
}

impl Window {
    fn attributes(&self, pads: Vec<i64>) -> Vec<Attribute> {
        vec![
            Attribute::ints("strides", self.strides.clone()),
            Attribute::ints("dilations", self.dilations.clone()),
            Attribute::ints("pads", pads),
        ]
    }

    fn pads(&self) -> Vec<i64> {
        [&self.low[..], &self.high].concat()
    }

    fn has_negative(&self) -> bool {
        self.pads().iter().any(|&pad| pad < 0)
    }
}

impl Builder<'_> {
    pub(super) fn conv(&mut self, x: &str, kernel: &str, window: &Window, groups: i64) -> String {
        let (mut x, mut pads) = (x.to_owned(), window.pads());
        if window.has_negative() {
            // Conv pads, and does not cut off.
            let ends = [&[0, 0], &window.low[..], &[0, 0], &window.high].concat();
            let (ends, zero) = (self.i64s(&ends), self.f32(0.0));
            x = self.pad(&x, &ends, &zero, DType::F32);
            pads.fill(0);
        }
        let mut attributes = window.attributes(pads);
        attributes.push(Attribute::int("group", groups));
        self.op("Conv", &[&x, kernel], attributes)
    }
}

/// The axes of a pooling operand: those without a window first, and two of them at least.
struct Pool {
    /// Axes to add in front of all, where fewer than two have no window.
    added: Vec<i64>,
    permutation: Vec<i64>,
    /// Extents of windows.
    extents: Vec<i64>,
    window: Window,
}

fn pool(call: &Call<'_>) -> Result<Pool, String> {
    let x = &call.inputs[0];
    if x.dtype() != DType::F32 {
        return Err(format!("no op of ONNX has windows of {}", x.dtype()));
    }
    let (extents, strides) = (call.ints("window_dimensions")?, call.ints("window_strides")?);
    let (low, high) = (call.numbers("low")?, call.numbers("high")?);
    let dilations = call.ints("window_dilation")?;
    if call.ints("base_dilation")?.iter().any(|&dilation| dilation != 1) {
        return Err("no op of ONNX has windows of a spread operand".into());
    }
    let is_plain = |axis: &usize| {
        let axis = *axis;
        extents[axis] == 1 && strides[axis] == 1 && low[axis] == 0 && high[axis] == 0
    };
    let (mut plain, mut spatial): (Vec<usize>, Vec<usize>) = (0..extents.len()).partition(is_plain);
    if plain.len() > 2 {
        spatial.splice(0..0, plain.drain(2..));
        spatial.sort_unstable();
    }
    if spatial.is_empty() {
        // Windows of one element: the last axis has them as well as any.
        spatial.extend(plain.pop());
    }
    if spatial.is_empty() {
        return Err("it has no axes".into());
    }
    let added = 2 - plain.len() as i64;
    let axes = plain.iter().chain(&spatial).map(|&axis| axis as i64 + added);
    let of = |list: &[i64]| spatial.iter().map(|&axis| list[axis]).collect::<Vec<_>>();
    let window =
        Window { strides: of(&strides), dilations: of(&dilations), low: of(&low), high: of(&high) };
    if window.has_negative() {
        return Err("a window of ONNX cuts nothing off".into());
    }
    let extents = of(&extents);
    let beyond = (window.low.iter().chain(&window.high))
        .zip(extents.iter().cycle().zip(window.dilations.iter().cycle()))
        .any(|(&pad, (&extent, &dilation))| pad > (extent - 1).saturating_mul(dilation));
    if beyond {
        return Err("a window of ONNX must reach beyond its padding".into());
    }
    let added: Vec<i64> = (0..added).collect();
    let permutation = added.iter().copied().chain(axes).collect();
    Ok(Pool { added, permutation, extents, window })
}

impl Pool {
    fn apply(&self, b: &mut Builder<'_>, op: &str, x: &str, further: Vec<Attribute>) -> String {
        let x = b.unsqueeze(x, &self.added);
        let x = b.transpose(&x, &self.permutation);
        let mut attributes = self.window.attributes(self.window.pads());
        attributes.push(Attribute::ints("kernel_shape", self.extents.clone()));
        attributes.extend(further);
        let out = b.op(op, &[&x], attributes);
        let out = b.transpose(&out, &inverse(&self.permutation));
        if self.added.is_empty() {
            return out;
        }
        let axes = b.i64s(&self.added);
        b.op("Squeeze", &[&out, &axes], vec![])
    }
}

fn max_pool(b: &mut Builder<'_>, call: &Call<'_>, is_min: bool) -> Result<String, String> {
    let pool = pool(call)?;
    if !is_min {
        return Ok(pool.apply(b, "MaxPool", call.input(0), vec![]));
    }
    let negative = b.op("Neg", &[call.input(0)], vec![]);
    let largest = pool.apply(b, "MaxPool", &negative, vec![]);
    Ok(b.op("Neg", &[&largest], vec![]))
}

/// The mean of a window times its elements, padding included.
fn sum_pool(b: &mut Builder<'_>, call: &Call<'_>) -> Result<String, String> {
    let pool = pool(call)?;
    let mean =
        pool.apply(b, "AveragePool", call.input(0), vec![Attribute::int("count_include_pad", 1)]);
    let count = b.f32(pool.extents.iter().map(|&extent| extent as f32).product());
    Ok(b.op("Mul", &[&mean, &count], vec![]))
}
