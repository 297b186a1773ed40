//! Functions of elements.

use lumina_kernels::DType;

use super::builder::Builder;
use super::call::{Call, Value, named, one};
use super::proto::Attribute;

/// Ops of one operand that ONNX has under another name.
const UNARY: &[(&str, &str)] = &[
    ("abs", "Abs"),
    ("acos", "Acos"),
    ("acosh", "Acosh"),
    ("asin", "Asin"),
    ("asinh", "Asinh"),
    ("atan", "Atan"),
    ("atanh", "Atanh"),
    ("ceil", "Ceil"),
    ("copy", "Identity"),
    ("cos", "Cos"),
    ("cosh", "Cosh"),
    ("erf", "Erf"),
    ("exp", "Exp"),
    ("floor", "Floor"),
    ("log", "Log"),
    ("logistic", "Sigmoid"),
    ("neg", "Neg"),
    ("sign", "Sign"),
    ("sin", "Sin"),
    ("sinh", "Sinh"),
    ("sqrt", "Sqrt"),
    ("tan", "Tan"),
    ("tanh", "Tanh"),
];

const BINARY: &[(&str, &str)] = &[
    ("add", "Add"),
    ("div", "Div"),
    ("eq", "Equal"),
    ("ge", "GreaterOrEqual"),
    ("gt", "Greater"),
    ("le", "LessOrEqual"),
    ("lt", "Less"),
    ("max", "Max"),
    ("min", "Min"),
    ("mul", "Mul"),
    ("pow", "Pow"),
    ("sub", "Sub"),
];

/// Of truth values, and of the bits of integers.
const LOGIC: &[(&str, &str, &str)] =
    &[("and", "And", "BitwiseAnd"), ("or", "Or", "BitwiseOr"), ("xor", "Xor", "BitwiseXor")];

pub(super) fn emit(b: &mut Builder<'_>, call: &Call<'_>) -> Result<Option<Vec<Value>>, String> {
    let op = call.node.op.as_str();
    let found = |table: &[(&'static str, &'static str)]| {
        table.iter().find(|(name, _)| *name == op).map(|(_, onnx)| *onnx)
    };
    if let Some(onnx) = found(UNARY) {
        return one(b.op(onnx, &[call.input(0)], vec![]));
    }
    let is_bool = call.inputs.first().is_some_and(|value| value.dtype() == DType::Bool);
    if let Some(onnx) = found(BINARY) {
        let logic = match op {
            "max" | "add" => Some("Or"),
            "min" | "mul" => Some("And"),
            _ => None,
        };
        let onnx = logic.filter(|_| is_bool).unwrap_or(onnx);
        return one(b.joined(onnx, &call.inputs));
    }
    if let Some((_, of_bools, of_integers)) = LOGIC.iter().find(|(name, ..)| *name == op) {
        return one(b.joined(if is_bool { of_bools } else { of_integers }, &call.inputs));
    }
    let x = call.inputs.first().map_or("", |value| &value.name);
    let dtype = call.inputs.first().map_or(DType::F32, Value::dtype);
    match op {
        "ne" => {
            let equal = b.joined("Equal", &call.inputs);
            one(b.op("Not", &[&equal], vec![]))
        }
        "not" if is_bool => one(b.op("Not", &[x], vec![])),
        "not" => one(b.op("BitwiseNot", &[x], vec![])),
        "rem" => {
            let [x, y] = b.compact_pair(&call.inputs);
            one(b.op("Mod", &[&x, &y], vec![Attribute::int("fmod", 1)]))
        }
        "square" => one(b.op("Mul", &[x, x], vec![])),
        "rsqrt" => {
            let root = b.op("Sqrt", &[x], vec![]);
            one(b.op("Reciprocal", &[&root], vec![]))
        }
        "exp2" => {
            let two = b.number(2.0, dtype)?;
            one(b.op("Pow", &[&two, x], vec![]))
        }
        "expm1" => {
            let unit = b.number(1.0, dtype)?;
            let exp = b.op("Exp", &[x], vec![]);
            one(b.op("Sub", &[&exp, &unit], vec![]))
        }
        "log1p" => {
            let unit = b.number(1.0, dtype)?;
            let sum = b.op("Add", &[x, &unit], vec![]);
            one(b.op("Log", &[&sum], vec![]))
        }
        "erfc" => {
            let unit = b.number(1.0, dtype)?;
            let erf = b.op("Erf", &[x], vec![]);
            one(b.op("Sub", &[&unit, &erf], vec![]))
        }
        "cbrt" => {
            let third = b.number(1.0 / 3.0, dtype)?;
            let (sign, abs) = (b.op("Sign", &[x], vec![]), b.op("Abs", &[x], vec![]));
            let root = b.op("Pow", &[&abs, &third], vec![]);
            one(b.op("Mul", &[&sign, &root], vec![]))
        }
        "is_finite" => {
            let nan = b.op("IsNaN", &[x], vec![]);
            let infinite = b.op("IsInf", &[x], vec![]);
            let either = b.op("Or", &[&nan, &infinite], vec![]);
            one(b.op("Not", &[&either], vec![]))
        }
        "round" => one(match call.int("rounding_method")? {
            1 => b.op("Round", &[x], vec![]),
            _ => {
                let half = b.number(0.5, dtype)?;
                let (sign, abs) = (b.op("Sign", &[x], vec![]), b.op("Abs", &[x], vec![]));
                let sum = b.op("Add", &[&abs, &half], vec![]);
                let whole = b.op("Floor", &[&sum], vec![]);
                b.op("Mul", &[&sign, &whole], vec![])
            }
        }),
        "integer_pow" => one(integer_pow(b, x, call.int("y")?, dtype)?),
        "convert_element_type" => {
            let element = call.element()?;
            one(b.cast(x, element))
        }
        "gelu" => one(b.gelu(x, call.bool("approximate")?)),
        "silu" => {
            let beta = call.float("beta")? as f32;
            one(b.silu(x, beta))
        }
        "clamp" => {
            let at_least = b.op("Max", &[call.input(1), call.input(0)], vec![]);
            one(b.op("Min", &[&at_least, call.input(2)], vec![]))
        }
        "select_n" => one(select(b, call)?),
        _ => Ok(None),
    }
}

/// x^y by products, as the runtime computes it.
fn integer_pow(b: &mut Builder<'_>, x: &str, y: i64, dtype: DType) -> Result<String, String> {
    if y == 0 {
        let unit = b.number(1.0, dtype)?;
        // In the shape of x.
        let same = b.op("Sub", &[x, x], vec![]);
        return Ok(b.op("Add", &[&same, &unit], vec![]));
    }
    let (mut square, mut left) = (x.to_owned(), y.unsigned_abs());
    let mut product: Option<String> = None;
    loop {
        if left & 1 == 1 {
            product = Some(match product {
                None => square.clone(),
                Some(product) => b.op("Mul", &[&product, &square], vec![]),
            });
        }
        left >>= 1;
        if left == 0 {
            break;
        }
        square = b.op("Mul", &[&square, &square], vec![]);
    }
    let product = product.unwrap_or(square);
    Ok(if y < 0 { b.op("Reciprocal", &[&product], vec![]) } else { product })
}

/// One of the cases for each element.
fn select(b: &mut Builder<'_>, call: &Call<'_>) -> Result<String, String> {
    let (which, cases) = call.inputs.split_first().ok_or("no operand")?;
    if which.dtype() == DType::Bool {
        return Ok(match cases {
            [no, yes] => b.choose(&which.name, yes, no),
            [only] => only.name.clone(),
            _ => return Err("a truth value chooses among two cases".into()),
        });
    }
    let (mut chosen, rest) = match cases {
        [first, rest @ ..] => (first.clone(), rest),
        [] => return Err("it has no cases".into()),
    };
    for (index, case) in rest.iter().enumerate() {
        let number = b.number(index as f64 + 1.0, which.dtype())?;
        let is_it = b.op("GreaterOrEqual", &[&which.name, &number], vec![]);
        let name = b.choose(&is_it, case, &chosen);
        chosen = Value { name, compact: None, ..chosen };
    }
    Ok(chosen.name)
}

impl Builder<'_> {
    /// A node of operands that ONNX repeats to a common shape.
    fn joined(&mut self, op: &str, inputs: &[Value]) -> String {
        let [left, right] = self.compact_pair(inputs);
        self.op(op, &[&left, &right], vec![])
    }

    /// The names of two operands, of which one is not repeated where the other has the shape of the
    /// result.
    fn compact_pair(&mut self, inputs: &[Value]) -> [String; 2] {
        let [left, right] = inputs else {
            return std::array::from_fn(|index| {
                inputs.get(index).map_or_else(String::new, |value| value.name.clone())
            });
        };
        match (&left.compact, &right.compact) {
            (Some(compact), None) if right.rank() == left.rank() => {
                [compact.name.clone(), right.name.clone()]
            }
            (None, Some(compact)) if right.rank() == left.rank() => {
                [left.name.clone(), compact.name.clone()]
            }
            _ => [left.name.clone(), right.name.clone()],
        }
    }

    /// `yes` where `condition`, else `no`.
    pub(super) fn choose(&mut self, condition: &str, yes: &Value, no: &Value) -> String {
        if yes.dtype() == DType::Bool {
            // Runtimes choose among numbers.
            let inverse = self.op("Not", &[condition], vec![]);
            let yes = self.op("And", &[condition, &yes.name], vec![]);
            let no = self.op("And", &[&inverse, &no.name], vec![]);
            return self.op("Or", &[&yes, &no], vec![]);
        }
        self.op("Where", &[condition, &yes.name, &no.name], vec![])
    }

    pub(super) fn gelu(&mut self, x: &str, approximate: bool) -> String {
        let form = if approximate { "tanh" } else { "none" };
        self.op("Gelu", &[x], vec![Attribute::text("approximate", form)])
    }

    pub(super) fn silu(&mut self, x: &str, beta: f32) -> String {
        let scaled = match beta {
            1.0 => x.to_owned(),
            beta => {
                let beta = self.f32(beta);
                self.op("Mul", &[x, &beta], vec![])
            }
        };
        let logistic = self.op("Sigmoid", &[&scaled], vec![]);
        self.op("Mul", &[x, &logistic], vec![])
    }

    /// The activation of that name of a fused op.
    pub(super) fn activation(&mut self, name: &str, x: String) -> Result<String, String> {
        Ok(match name {
            "none" => x,
            "relu" => self.op("Relu", &[&x], vec![]),
            "gelu" => self.gelu(&x, false),
            "gelu_tanh" => self.gelu(&x, true),
            "silu" => self.silu(&x, 1.0),
            "logistic" => self.op("Sigmoid", &[&x], vec![]),
            other => return Err(format!("no op has the activation `{other}`")),
        })
    }

    /// The sum of a product and of what is added to it, and its activation.
    pub(super) fn finished(
        &mut self,
        product: String,
        added: &[Value],
        activation: &str,
    ) -> Result<Option<Vec<Value>>, String> {
        let mut sum = product;
        for value in added {
            let term = value.compact.as_ref().map_or(&value.name, |compact| &compact.name).clone();
            sum = self.op("Add", &[&sum, &term], vec![]);
        }
        Ok(Some(vec![named(self.activation(activation, sum)?)]))
    }
}
