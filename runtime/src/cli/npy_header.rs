//! The header of a .npy file: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }`.
//!
//! Of Python's literals, only what these three keys may hold is read, so nothing here nests.

use crate::element::Element;
use crate::npy::supported;

/// What a header tells.
pub(crate) struct Header {
    pub(crate) element: &'static Element,
    pub(crate) is_big_endian: bool,
    pub(crate) is_column_major: bool,
    pub(crate) shape: Vec<u64>,
}

impl Header {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut scanner = Scanner { rest: text };
        let (mut descr, mut is_column_major, mut shape) = (None, None, None);
        scanner.expect('{')?;
        while !scanner.take('}') {
            let key = scanner.string("a key in quotes")?;
            scanner.expect(':')?;
            let is_new = match key {
                "descr" => descr.replace(scanner.descr()?).is_none(),
                "fortran_order" => is_column_major.replace(scanner.boolean()?).is_none(),
                "shape" => shape.replace(scanner.tuple()?).is_none(),
                _ => {
                    let expected = "expected descr, fortran_order and shape";
                    return Err(format!("its header has the key {:?}, {expected}", excerpt(key)));
                }
            };
            if !is_new {
                return Err(format!("its header has the key {key:?} twice"));
            }
            if !scanner.take(',') {
                scanner.expect('}')?;
                break;
            }
        }
        scanner.end()?;
        let lacks = |key: &str| format!("its header lacks the key {key:?}");
        let (element, is_big_endian) = descr.ok_or_else(|| lacks("descr"))?;
        Ok(Self {
            element,
            is_big_endian,
            is_column_major: is_column_major.ok_or_else(|| lacks("fortran_order"))?,
            shape: shape.ok_or_else(|| lacks("shape"))?,
        })
    }
}

/// What is left of the text.
struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n', '\x0c']);
    }

    /// Whether the next character is this one, which is then behind.
    fn take(&mut self, character: char) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(character) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, character: char) -> Result<(), String> {
        if self.take(character) { Ok(()) } else { Err(self.fault(&format!("`{character}`"))) }
    }

    fn end(&mut self) -> Result<(), String> {
        self.skip_space();
        if self.rest.is_empty() { Ok(()) } else { Err(self.fault("its end")) }
    }

    /// The characters up to the first that is not of this kind.
    fn run(&mut self, is_of_kind: impl Fn(char) -> bool) -> &'a str {
        self.skip_space();
        let end = self.rest.find(|c| !is_of_kind(c)).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at(end);
        self.rest = rest;
        run
    }

    /// A string without escapes, in single or double quotes.
    fn string(&mut self, expected: &str) -> Result<&'a str, String> {
        self.skip_space();
        for quote in ['\'', '"'] {
            let inside = self.rest.strip_prefix(quote).and_then(|rest| rest.split_once(quote));
            if let Some((string, rest)) = inside
                && !string.contains(['\\', '\n'])
            {
                self.rest = rest;
                return Ok(string);
            }
        }
        Err(self.fault(expected))
    }

    fn boolean(&mut self) -> Result<bool, String> {
        let before = self.rest;
        match self.run(|c| c.is_ascii_alphanumeric() || c == '_') {
            "True" => Ok(true),
            "False" => Ok(false),
            _ => Err(Scanner { rest: before }.fault("True or False")),
        }
    }

    /// A tuple of extents. Python 2 wrote an L after long ones.
    fn tuple(&mut self) -> Result<Vec<u64>, String> {
        let mut extents = Vec::new();
        self.expect('(')?;
        while !self.take(')') {
            let before = self.rest;
            let fault = || Scanner { rest: before }.fault("an extent below 2^64");
            extents.push(self.run(|c| c.is_ascii_digit()).parse().map_err(|_| fault())?);
            self.rest = self.rest.strip_prefix('L').unwrap_or(self.rest);
            if !self.take(',') {
                // `(3)` is a number in Python, and no tuple.
                let is_tuple = extents.len() > 1;
                self.expect(if is_tuple { ')' } else { ',' })?;
                break;
            }
        }
        Ok(extents)
    }

    /// An element type, and whether its numbers are big endian.
    fn descr(&mut self) -> Result<(&'static Element, bool), String> {
        self.skip_space();
        if self.rest.starts_with(['[', '(']) {
            // Fields of records, or a subarray. NumPy writes the keys in this order.
            let end = self.rest.find(", 'fortran_order'").unwrap_or(self.rest.len());
            return Err(unsupported(excerpt(&self.rest[..end])));
        }
        let text = self.string("an element type in quotes")?;
        let code = text.strip_prefix(['<', '>', '|', '=']).unwrap_or(text);
        let element = Element::of_code(code).ok_or_else(|| unsupported(excerpt(text)))?;
        Ok((element, text.starts_with('>')))
    }

    fn fault(&self, expected: &str) -> String {
        match excerpt(self.rest.trim()) {
            "" => format!("its header ends where {expected} is expected"),
            got => format!("its header has {got:?} where {expected} is expected"),
        }
    }
}

fn unsupported(descr: &str) -> String {
    format!("dtype {descr} is not supported, only {}", supported())
}

/// The beginning of a text that may be long.
fn excerpt(text: &str) -> &str {
    let end = text.char_indices().nth(40).map_or(text.len(), |(end, _)| end);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(&'static str, bool, bool, Vec<u64>), String> {
        let Header { element, is_big_endian, is_column_major, shape } = Header::parse(text)?;
        Ok((element.name, is_big_endian, is_column_major, shape))
    }

    #[test]
    fn headers_of_numpy_are_read() {
        for (text, expected) in [
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }   \n",
                ("float32", false, false, vec![3, 2]),
            ),
            (
                "{\"shape\":(),\"fortran_order\":True,\"descr\":\">c16\"}",
                ("complex128", true, true, vec![]),
            ),
            (
                "\t{'shape' : ( 5 , ) ,\n 'descr':'|b1','fortran_order':False}",
                ("bool", false, false, vec![5]),
            ),
            (
                "{'descr': 'V2', 'fortran_order': False, 'shape': (1L, 0L), }",
                ("bfloat16", false, false, vec![1, 0]),
            ),
            (
                "{'descr': '=u8', 'fortran_order': False, 'shape': (18446744073709551615,)}",
                ("uint64", false, false, vec![u64::MAX]),
            ),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let only = supported();
        let unsupported = |descr: &str| format!("dtype {descr} is not supported, only {only}");
        let with = |descr: &str| format!("{{'descr': {descr}, 'fortran_order': False");
        for (text, expected) in [
            (String::new(), "its header ends where `{` is expected".into()),
            ("{".into(), "its header ends where a key in quotes is expected".into()),
            ("{}".into(), "its header lacks the key \"descr\"".into()),
            ("{'descr': '<f4'}".into(), "its header lacks the key \"fortran_order\"".into()),
            (with("'<f4'") + "}", "its header lacks the key \"shape\"".into()),
            ("{'x': 1}".into(), {
                "its header has the key \"x\", expected descr, fortran_order and shape".into()
            }),
            (
                "{'descr': '<f4', 'descr': '<f4'}".into(),
                "its header has the key \"descr\" twice".into(),
            ),
            (
                "{'fortran_order': 0}".into(),
                "its header has \"0}\" where True or False is expected".into(),
            ),
            ("{'shape': (3)}".into(), "its header has \")}\" where `,` is expected".into()),
            (
                "{'shape': (-3,)}".into(),
                "its header has \"-3,)}\" where an extent below 2^64 is expected".into(),
            ),
            (
                "{'shape': (18446744073709551616,)}".into(),
                "its header has \"18446744073709551616,)}\" where an extent below 2^64 is expected"
                    .into(),
            ),
            ("{'shape': [3]}".into(), "its header has \"[3]}\" where `(` is expected".into()),
            (
                with("'<f4'") + ", 'shape': (1,)} x",
                "its header has \"x\" where its end is expected".into(),
            ),
            (with("'<U1'"), unsupported("<U1")),
            (with("'|O'"), unsupported("|O")),
            (with("'<f4\\\\'"), {
                "its header has \"'<f4\\\\\\\\', 'fortran_order': False\" where an element type in \
                 quotes is expected"
                    .into()
            }),
            (with("[('a', '<f4')]"), unsupported("[('a', '<f4')]")),
        ] {
            assert_eq!(parse(&text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn brackets_do_not_nest() {
        for open in ["(", "[", "{", "{'descr': ", "{'shape': (", "{'descr': [", "("] {
            let text = open.repeat(30_000);
            assert!(parse(&text).unwrap_err().len() < 400);
            assert!(parse(&format!("{{'shape': {text}")).unwrap_err().len() < 400);
        }
    }
}
