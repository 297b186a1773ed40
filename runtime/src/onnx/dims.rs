//! Extents that follow from the shapes of the inputs, computed by nodes.

use super::builder::Builder;
use super::proto::Attribute;
use crate::ir::Dim;
use crate::ir::dim::Kind;

impl Builder<'_> {
    /// Extents as i64 along one axis.
    pub(super) fn dims(&mut self, dims: &[Dim]) -> Result<String, String> {
        if let Some(numbers) = dims.iter().map(number).collect::<Option<Vec<i64>>>() {
            return Ok(self.i64s(&numbers));
        }
        let parts = dims.iter().map(|dim| self.dim(dim)).collect::<Result<Vec<_>, _>>()?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Ok(match parts[..] {
            [one] => one.to_owned(),
            _ => self.op("Concat", &parts, vec![Attribute::int("axis", 0)]),
        })
    }

    /// An extent as i64\[1\], which is computed once.
    pub(super) fn dim(&mut self, dim: &Dim) -> Result<String, String> {
        if let Some(number) = number(dim) {
            return Ok(self.i64s(&[number]));
        }
        let words = dim.display(&self.graph.symbols).to_string();
        if let Some(name) = self.extents.get(&words) {
            return Ok(name.clone());
        }
        let outer = std::mem::replace(&mut self.is_prelude, true);
        let computed = self.polynomial(dim);
        self.is_prelude = outer;
        let name = computed?;
        self.extents.insert(words, name.clone());
        Ok(name)
    }

    fn polynomial(&mut self, dim: &Dim) -> Result<String, String> {
        let mut sum: Option<String> = None;
        for term in &dim.terms {
            let mut product = match term.coefficient {
                1 if !term.factors.is_empty() => None,
                coefficient => Some(self.i64s(&[coefficient])),
            };
            for factor in &term.factors {
                let symbol = self.symbol(factor.symbol as usize)?;
                for _ in 0..factor.power {
                    product = Some(match product {
                        None => symbol.clone(),
                        Some(product) => self.op("Mul", &[&product, &symbol], vec![]),
                    });
                }
            }
            // A power of 0.
            let product = product.unwrap_or_else(|| self.i64s(&[1]));
            sum = Some(match sum {
                None => product,
                Some(sum) => self.op("Add", &[&sum, &product], vec![]),
            });
        }
        Ok(sum.unwrap_or_else(|| self.i64s(&[0])))
    }

    /// The value of a symbol as i64\[1\].
    fn symbol(&mut self, symbol: usize) -> Result<String, String> {
        let graph = self.graph;
        if let Some(derived) = symbol.checked_sub(graph.bound()) {
            let derived = &graph.derived[derived];
            let (left, right) = (self.dim(&derived.left)?, self.dim(&derived.right)?);
            return Ok(match derived.kind {
                Kind::Maximum => self.op("Max", &[&left, &right], vec![]),
                Kind::FloorDivision => {
                    // Division cuts off, and the remainder has the sign of the divisor.
                    let rest = self.op("Mod", &[&left, &right], vec![]);
                    let whole = self.op("Sub", &[&left, &rest], vec![]);
                    self.op("Div", &[&whole, &right], vec![])
                }
            });
        }
        let found = graph.inputs.iter().find_map(|port| {
            let axis = port.shape.iter().position(|dim| dim.symbol() == Some(symbol))?;
            let name = self.inputs_by_port.iter().find(|(id, _)| *id == port.id)?.1.clone();
            Some((name, axis as i64))
        });
        let Some((input, axis)) = found else {
            let name = &graph.symbols[symbol];
            return Err(format!("`{name}` is no extent of an input by itself"));
        };
        Ok(self.op(
            "Shape",
            &[&input],
            vec![Attribute::int("start", axis), Attribute::int("end", axis + 1)],
        ))
    }

    /// An extent of a value as i64\[1\].
    pub(super) fn extent_of(&mut self, value: &super::call::Value, axis: usize) -> String {
        if value.is_exact {
            return self.i64s(&[value.fact.shape[axis] as i64]);
        }
        let (start, end) = (axis as i64, axis as i64 + 1);
        let attributes = vec![Attribute::int("start", start), Attribute::int("end", end)];
        self.op("Shape", &[&value.name], attributes)
    }
}

/// The extent, where it is a number.
fn number(dim: &Dim) -> Option<i64> {
    match dim.terms.as_slice() {
        [] => Some(0),
        [term] if term.factors.is_empty() => Some(term.coefficient),
        _ => None,
    }
}
