//! Optical products as a device without noise computes them: DAC, product, bias, ADC.

use super::builder::Builder;
use super::call::{Call, Value, one};
use super::convolution::Window;

/// A converter: `code = clip(round(v / step), -Q, Q)` with `step = full_scale / Q`, in value `code·step`.
#[derive(Clone, Copy)]
pub(super) struct Converter(i64);

/// What becomes of a signal in front of a product.
pub(super) struct Signal {
    /// Codes where they are converted, else the numbers.
    pub(super) name: String,
    /// What codes are multiplied by.
    pub(super) step: Option<String>,
}

/// How many of the operands of an op are read where there is no noise.
pub(super) fn operands_without_noise(op: &str) -> usize {
    match op {
        "optical_matmul" | "optical_conv" => 6,
        "optical_attention" => 11,
        _ => usize::MAX,
    }
}

pub(super) fn emit(b: &mut Builder<'_>, call: &Call<'_>) -> Result<Option<Vec<Value>>, String> {
    match call.node.op.as_str() {
        "quantize" => {
            let converter = Converter::of(call, "bits")?;
            let [v, full_scale] = [call.input(0), call.input(1)];
            one(converter.convert(b, v, full_scale))
        }
        "optical_matmul" => one(matmul(b, call)?),
        "optical_conv" => one(convolution(b, call)?),
        "optical_matmul_fwd"
        | "optical_conv_fwd"
        | "optical_matmul_grad"
        | "optical_conv_grad"
        | "optical_attention_grad"
        | "causal_softmax_grad"
        | "optical_noise" => {
            Err("it is an op of training or of noise, which ONNX has none of".into())
        }
        _ => Ok(None),
    }
}

fn matmul(b: &mut Builder<'_>, call: &Call<'_>) -> Result<String, String> {
    let [x, w, bias] = [&call.inputs[0], &call.inputs[1], &call.inputs[2]];
    let transposed = call.bool("transpose_weight")?;
    let of_depth = i64::from(transposed);
    let x_range = b.range(x, &call.inputs[3], &[0, 1], &[1]);
    let w_range = b.range(w, &call.inputs[4], &[of_depth], &[of_depth]);
    let x_codes = Converter::of(call, "dac_bits")?.codes(b, &x.name, &x_range);
    let mut w_codes = Converter::of(call, "weight_bits")?.codes(b, &w.name, &w_range);
    if transposed {
        w_codes.name = b.transpose(&w_codes.name, &[1, 0]);
        w_codes.step = w_codes.step.map(|step| b.transpose(&step, &[1, 0]));
    }
    let adc = Converter::of(call, "adc_bits")?;
    let parts = match call.int("array_rows")? {
        0 => vec![(x_codes.name.clone(), w_codes.name.clone())],
        rows => {
            let depth = w.extent(of_depth as usize)?;
            let step = usize::try_from(rows).unwrap_or(1).max(1);
            check_count(depth, rows)?;
            let starts = (0..depth.max(1)).step_by(step);
            let part = |start: i64| {
                let end = start.saturating_add(rows).min(depth);
                let x = b.slice(&x_codes.name, 1, start, end);
                (x, b.slice(&w_codes.name, 0, start, end))
            };
            starts.map(part).collect()
        }
    };
    let steps = b.steps(&x_codes, &w_codes);
    let mut sum: Option<String> = None;
    for (index, (x, w)) in parts.into_iter().enumerate() {
        let product = b.op("MatMul", &[&x, &w], vec![]);
        let bias = (index == 0).then_some(bias.name.as_str());
        let read = b.read_out(product, steps.as_deref(), bias, adc, call.input(5));
        sum = Some(added(b, sum, read));
    }
    sum.ok_or_else(|| "it has no inputs".into())
}

/// What an array reads out, added to those before it.
fn added(b: &mut Builder<'_>, sum: Option<String>, read: String) -> String {
    match sum {
        None => read,
        Some(sum) => b.op("Add", &[&sum, &read], vec![]),
    }
}

fn convolution(b: &mut Builder<'_>, call: &Call<'_>) -> Result<String, String> {
    let [x, kernel, bias] = [&call.inputs[0], &call.inputs[1], &call.inputs[2]];
    let strides = call.ints("window_strides")?;
    if call.ints("input_dilation")?.iter().any(|&dilation| dilation != 1) {
        return Err("no op of ONNX spreads the image in front of a convolution".into());
    }
    if call.inputs[3].fact.shape == [0] && strides.iter().any(|&stride| stride != 1) {
        return Err("the range of x is that of the patches, which strides leave gaps between: \
                    calibrate it"
            .into());
    }
    let [top, bottom, left, right] = call.ints("padding")?[..] else {
        return Err("`padding` must have 4 numbers".into());
    };
    let window = Window {
        strides,
        dilations: call.ints("kernel_dilation")?,
        low: vec![top, left],
        high: vec![bottom, right],
    };
    let groups = call.int("feature_group_count")?;
    let x_range = b.range(x, &call.inputs[3], &[0, 1, 2, 3], &[1, 2, 3]);
    let w_range = b.range(kernel, &call.inputs[4], &[0, 1, 2], &[0, 1, 2]);
    let x_codes = Converter::of(call, "dac_bits")?.codes(b, &x.name, &x_range);
    let w_codes = Converter::of(call, "weight_bits")?.codes(b, &kernel.name, &w_range);
    let adc = Converter::of(call, "adc_bits")?;
    let image = b.transpose(&x_codes.name, &[0, 3, 1, 2]);
    let steps = b.steps(&x_codes, &w_codes);
    let mut sum: Option<String> = None;
    for (index, kernel) in kernels(b, call, kernel, w_codes.name)?.into_iter().enumerate() {
        let weights = b.transpose(&kernel, &[3, 2, 0, 1]);
        let product = b.conv(&image, &weights, &window, groups);
        let product = b.transpose(&product, &[0, 2, 3, 1]);
        let bias = (index == 0).then_some(bias.name.as_str());
        let read = b.read_out(product, steps.as_deref(), bias, adc, call.input(5));
        sum = Some(added(b, sum, read));
    }
    sum.ok_or_else(|| "it has no inputs".into())
}

/// Arrays of a product at most, each of which takes some nodes.
const MOST_ARRAYS: i64 = 1 << 12;
/// Numbers of the masks that tell the inputs of arrays of a convolution.
const MOST_MASKED: usize = 1 << 24;

/// Refuses a product over so many inputs on arrays of so many rows where these are too many.
fn check_count(depth: i64, rows: i64) -> Result<(), String> {
    match depth.max(1) / rows.max(1) < MOST_ARRAYS {
        true => Ok(()),
        false => Err(format!("it has more than {MOST_ARRAYS} arrays")),
    }
}

/// The kernel of each array: zeros but for the inputs that it has, in the order of taps and channels.
fn kernels(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    kernel: &Value,
    codes: String,
) -> Result<Vec<String>, String> {
    let rows = match call.int("array_rows")? {
        0 => return Ok(vec![codes]),
        rows => usize::try_from(rows).unwrap_or(1).max(1),
    };
    let mut shape = Vec::new();
    for axis in 0..3 {
        shape.push(kernel.extent(axis)? as usize);
    }
    shape.push(1);
    let depth = shape.iter().fold(1, |product: usize, &extent| product.saturating_mul(extent));
    check_count(depth as i64, rows as i64)?;
    if depth.div_ceil(rows).saturating_mul(depth) > MOST_MASKED {
        return Err("its arrays would take too much room: each has a mask of all inputs".into());
    }
    let mask = |start: usize| {
        let is_in = (0..depth)
            .map(|input| f32::from(u8::from((start..start.saturating_add(rows)).contains(&input))));
        let bytes = is_in.flat_map(f32::to_le_bytes).collect();
        let mask = b.constant(super::proto::element::FLOAT, &shape, bytes);
        b.op("Mul", &[&codes, &mask], vec![])
    };
    Ok((0..depth.max(1)).step_by(rows).map(mask).collect())
}

impl Converter {
    /// Of as many bits as an attribute says.
    pub(super) fn of(call: &Call<'_>, name: &str) -> Result<Self, String> {
        call.int(name).map(Self)
    }

    fn is_off(self) -> bool {
        self.0 == 0 || self.0 >= 24
    }

    fn largest_code(self) -> f32 {
        ((1i64 << (self.0 - 1)) - 1).max(1) as f32
    }

    /// The step, and what numbers are divided by: where there is no range, all is 0.
    fn step(self, b: &mut Builder<'_>, full_scale: &str) -> (String, String) {
        let most = b.f32(self.largest_code());
        let step = b.op("Div", &[full_scale, &most], vec![]);
        let (zero, unit) = (b.f32(0.0), b.f32(1.0));
        let is_zero = b.op("Equal", &[&step, &zero], vec![]);
        let divisor = b.op("Where", &[&is_zero, &unit, &step], vec![]);
        (step, divisor)
    }

    pub(super) fn codes(self, b: &mut Builder<'_>, v: &str, full_scale: &str) -> Signal {
        if self.is_off() {
            return Signal { name: v.into(), step: None };
        }
        let (step, divisor) = self.step(b, full_scale);
        let code = if self.0 == 1 {
            let (zero, plus, minus) = (b.f32(0.0), b.f32(1.0), b.f32(-1.0));
            let is_negative = b.op("Less", &[v, &zero], vec![]);
            b.op("Where", &[&is_negative, &minus, &plus], vec![])
        } else {
            let most = self.largest_code();
            let (low, high) = (b.f32(-most), b.f32(most));
            let ratio = b.op("Div", &[v, &divisor], vec![]);
            let whole = b.op("Round", &[&ratio], vec![]);
            b.op("Clip", &[&whole, &low, &high], vec![])
        };
        Signal { name: code, step: Some(step) }
    }

    /// The nearest levels.
    pub(super) fn convert(self, b: &mut Builder<'_>, v: &str, full_scale: &str) -> String {
        let Signal { name, step } = self.codes(b, v, full_scale);
        match step {
            None => name,
            Some(step) => b.op("Mul", &[&name, &step], vec![]),
        }
    }
}

impl Builder<'_> {
    /// A full scale in the shape of what it is of: the one that is given, with `axes` of extent 1, or
    /// where none is, the largest magnitude over `reduced`.
    pub(super) fn range(
        &mut self,
        v: &Value,
        given: &Value,
        reduced: &[i64],
        axes: &[i64],
    ) -> String {
        if given.fact.shape == [0] {
            let magnitude = self.op("Abs", &[&v.name], vec![]);
            return self.reduce("ReduceMax", &magnitude, reduced, true);
        }
        self.unsqueeze(&given.name, axes)
    }

    /// What the product of codes is multiplied by.
    pub(super) fn steps(&mut self, x: &Signal, w: &Signal) -> Option<String> {
        match (&x.step, &w.step) {
            (None, step) | (step, None) => step.clone(),
            (Some(x), Some(w)) => Some(self.op("Mul", &[x, w], vec![])),
        }
    }

    /// `ADC(product·steps + bias)`
    pub(super) fn read_out(
        &mut self,
        product: String,
        steps: Option<&str>,
        bias: Option<&str>,
        adc: Converter,
        full_scale: &str,
    ) -> String {
        let mut y = product;
        if let Some(steps) = steps {
            y = self.op("Mul", &[&y, steps], vec![]);
        }
        if let Some(bias) = bias {
            y = self.op("Add", &[&y, bias], vec![]);
        }
        adc.convert(self, &y, full_scale)
    }
}
