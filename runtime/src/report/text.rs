//! JSON that is written piece by piece and grows no larger than a limit.

use std::fmt::{self, Write as _};

use serde_json::Value;

/// Text of JSON in the making.
pub(super) struct Text {
    text: String,
    limit: usize,
    /// Whether a field or item stands before the next one.
    follows: bool,
}

impl Text {
    pub(super) fn new(limit: usize) -> Self {
        Self { text: String::new(), limit, follows: false }
    }

    /// The text, and whether it is all there.
    pub(super) fn finish(self) -> String {
        self.text
    }

    pub(super) fn begin(&mut self, bracket: char) -> fmt::Result {
        self.comma()?;
        self.follows = false;
        self.text.write_char(bracket)
    }

    pub(super) fn end(&mut self, bracket: char) -> fmt::Result {
        self.follows = true;
        self.text.write_char(bracket)
    }

    /// The name of a field, whose value is the next thing that is written.
    pub(super) fn name(&mut self, name: &str) -> fmt::Result {
        self.comma()?;
        self.follows = false;
        write!(self.text, "{}:", Value::from(name))
    }

    /// A field of an object.
    pub(super) fn field(&mut self, name: &str, value: &Value) -> fmt::Result {
        self.name(name)?;
        self.item(value)
    }

    /// A field that is a list. Each item is made when it is written, because the values of a whole
    /// file take many times its bytes.
    pub(super) fn list<T>(
        &mut self,
        name: &str,
        items: impl Iterator<Item = T>,
        json: impl Fn(T) -> Value,
    ) -> fmt::Result {
        self.name(name)?;
        self.begin('[')?;
        for item in items {
            self.item(&json(item))?;
        }
        self.end(']')
    }

    fn item(&mut self, value: &Value) -> fmt::Result {
        self.comma()?;
        self.follows = true;
        // Nothing in it can then end the element of the page that holds it.
        let json = value.to_string();
        for (index, part) in json.split('<').enumerate() {
            if index > 0 {
                self.text.push_str("\\u003c");
            }
            self.text.push_str(part);
        }
        if self.text.len() > self.limit { Err(fmt::Error) } else { Ok(()) }
    }

    fn comma(&mut self) -> fmt::Result {
        if self.follows { self.text.write_char(',') } else { Ok(()) }
    }
}
