//! Values of symbols on the command line.

/// Name and value in `NAME=N`, which the last `=` parts.
pub(crate) fn symbol(text: &str) -> Result<(String, u64), String> {
    let expected = || format!("expected NAME=N, such as batch=8, got `{text}`");
    let (name, value) = text.rsplit_once('=').ok_or_else(expected)?;
    let value = value.parse().map_err(|_| expected())?;
    Ok((name.into(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_have_a_name_and_an_extent() {
        assert_eq!(symbol("a=b=3"), Ok(("a=b".to_string(), 3)));
        for text in ["time", "time=-1", "time="] {
            let message = format!("expected NAME=N, such as batch=8, got `{text}`");
            assert_eq!(symbol(text), Err(message));
        }
    }
}
