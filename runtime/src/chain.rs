//! Which operands of optical ops are what.

/// The operands of an op, and its converters: what each converts, the attribute with its bits, and the
/// operand with its full scale.
pub(crate) struct Chain {
    pub(crate) operands: &'static [&'static str],
    pub(crate) converters: &'static [(&'static str, &'static str, usize)],
    /// The operands with the weights and their full scale.
    pub(crate) weights: Option<(usize, usize)>,
    /// The operand with the noise.
    pub(crate) noise: usize,
}

const PRODUCT: Chain = Chain {
    operands: &[
        "x",
        "weights",
        "bias",
        "x_full_scale",
        "w_full_scale",
        "y_full_scale",
        "noise",
        "seed",
        "rows",
        "columns",
    ],
    converters: &[
        ("DAC of x", "dac_bits", 3),
        ("DAC of the weights", "weight_bits", 4),
        ("ADC", "adc_bits", 5),
    ],
    weights: Some((1, 4)),
    noise: 6,
};

const ATTENTION: Chain = Chain {
    operands: &[
        "q",
        "k",
        "v",
        "seen",
        "scale",
        "q_full_scale",
        "k_full_scale",
        "p_full_scale",
        "v_full_scale",
        "scores_full_scale",
        "out_full_scale",
        "noise",
        "seed",
        "rows",
    ],
    converters: &[
        ("DAC of q", "dac_bits", 5),
        ("DAC of k", "dac_bits", 6),
        ("DAC of p", "dac_bits", 7),
        ("DAC of v", "dac_bits", 8),
        ("ADC of scores", "adc_bits", 9),
        ("ADC of outputs", "adc_bits", 10),
    ],
    weights: None,
    noise: 11,
};

/// The chain of the op of that name, if it is an optical one.
pub(crate) fn chain(op: &str) -> Option<&'static Chain> {
    match op {
        "optical_matmul" | "complex_optical_matmul" | "optical_conv" => Some(&PRODUCT),
        "optical_attention" => Some(&ATTENTION),
        _ => None,
    }
}
