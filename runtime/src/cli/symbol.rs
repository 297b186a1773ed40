//! Values of symbols on the command line.

/// Name and value in `NAME=N`.
pub(crate) fn symbol(text: &str) -> Result<(String, u64), String> {
    let expected = || format!("expected NAME=N, such as batch=8, got `{text}`");
    let (name, value) = text.rsplit_once('=').ok_or_else(expected)?;
    let value = value.parse().map_err(|_| expected())?;
    Ok((name.into(), value))
}
