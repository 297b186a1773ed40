use prost::Message;

use super::decoder::MAX_TEXT;
use super::node::MAX_DEPTH;
use super::*;
use crate::tests::build::{dim, flag, int, ints, shape, text};
use crate::tests::proto::{self, Attr, Node, Region, attr};

fn decoded(graph: &proto::Graph) -> Module {
    decode(&graph.encode_to_vec(), 0).unwrap()
}

fn refusal(message: &[u8]) -> String {
    let result = decode(message, message.len()).map(drop);
    let text = result.expect_err("the graph is wrong").to_string();
    text.strip_prefix("section GRAPH cannot be decoded: ").unwrap_or(&text).to_string()
}

/// A field that holds bytes.
fn field(number: u8, payload: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(payload.len() as u64, &mut field);
    field.extend(payload);
    field
}

/// A graph with every field of the schema, each of another value.
fn full() -> proto::Graph {
    let region = Region {
        captures: vec![1, 300],
        inputs: 2,
        nodes: vec![Node { op: "inner".into(), ..Node::default() }],
        outputs: vec![5],
    };
    let extent = dim(&[(-3, &[(0, 2), (1, 1)]), (1, &[])]);
    let number = |value| Attr { value: Some(value) };
    let attrs = [
        ("flag", flag(true)),
        ("float", number(attr::Value::Number(-0.5))),
        ("int", int(i64::MIN)),
        ("ints", ints(&[0, -1, i64::MAX])),
        ("region", number(attr::Value::Region(region))),
        ("shape", shape(&[extent.clone(), dim(&[])])),
        ("text", text("f32")),
    ];
    let node = Node {
        op: "op".into(),
        inputs: vec![0, 128, u32::MAX],
        outputs: vec![7],
        attrs: attrs.map(|(name, attr)| (name.to_string(), attr)).into(),
        source: "m.py:1".into(),
        fused: vec!["exp at m.py:2".into(), String::new()],
        execution: Some(proto::Execution {
            products: vec![proto::Product {
                layer: "Dense_0".into(),
                inputs: Some(extent.clone()),
                outputs: None,
                tile_rows: 4,
                tile_columns: 300,
                order: 1,
                slot_of_stream: vec![3, 200],
            }],
        }),
    };
    let value = |id, name: &str, role| proto::Value {
        id,
        name: name.into(),
        dtype: 3,
        shape: vec![extent.clone()],
        role,
    };
    let tensor = |offset| proto::TestTensor { dtype: 4, shape: vec![2, 1 << 40], offset };
    proto::Graph {
        producer: "us".into(),
        opset: 2,
        symbols: vec!["n".into(), "µ".into()],
        derived: vec![
            proto::DerivedSymbol {
                kind: 0,
                left: Some(extent.clone()),
                right: Some(extent.clone()),
            },
            proto::DerivedSymbol { kind: 1, left: Some(symbol(2)), right: None },
        ],
        inputs: vec![value(8, "x", 1)],
        tensors: vec![proto::Tensor {
            id: 9,
            name: "w".into(),
            dtype: 1,
            shape: vec![3, 0],
            offset: 64,
            quantization: Some(proto::Quantization {
                bits: 4,
                axis: Some(0),
                scales: vec![0.5, 2.0],
                zero_points: vec![-1.0],
                lut_offset: Some(128),
                lut_length: 16,
            }),
        }],
        nodes: vec![node],
        outputs: vec![value(10, "y", 0)],
        tests: vec![proto::TestVector {
            inputs: vec![tensor(192)],
            outputs: vec![tensor(256), tensor(320)],
            absolute_tolerance: 1e-6,
            relative_tolerance: 1e-3,
            entry: 1,
            continues: true,
        }],
        name: "first".into(),
        states: vec![proto::State {
            name: "cache".into(),
            id: 11,
            dtype: 1,
            shape: vec![2, 5],
            next: Some(7),
            initial: Some(9),
        }],
        entries: vec![proto::Entry {
            name: "further".into(),
            symbols: vec!["m".into()],
            inputs: vec![proto::Value { id: 3, dtype: 1, ..proto::Value::default() }],
            ..proto::Entry::default()
        }],
        wdm: Some(proto::Wdm { wavelengths_nm: vec![1550.5], slot_of_stream: vec![0, 200] }),
        crosstalk: Some(proto::Crosstalk {
            size: 1,
            matrix: vec![0.25],
            compensation: "none".into(),
            condition_number: 1.5,
            ..proto::Crosstalk::default()
        }),
        device: Some(proto::Device {
            name: "chip".into(),
            bank_rows: 2,
            bank_columns: 3,
            banks: 4,
            symbol_rate_hz: 5.5,
            settling_s: 6.5,
            dac_bits: 7,
            weight_bits: 8,
            adc_bits: 9,
            dac_fom_j: 10.5,
            adc_fom_j: 11.5,
            modulator_j: 12.5,
            laser_w: 13.5,
            ring_w: 14.5,
            amplifier_w: 15.5,
        }),
    }
}

#[test]
fn every_field_is_read() {
    let Module { producer, opset, entries, tests, device, wdm, crosstalk } = decoded(&full());
    let [graph, further] = <[Graph; 2]>::try_from(entries).unwrap();
    assert_eq!((graph.bound(), graph.derived.len()), (2, 2));
    let Graph { name, symbols, inputs, states, tensors, nodes, outputs, .. } = graph;
    assert_eq!((&*name, &*further.name), ("first", "further"));
    assert_eq!((&*further.symbols, further.inputs[0].id), (&["m".to_string()][..], 3));
    assert!(Arc::ptr_eq(&tensors, &further.tensors));
    assert_eq!(
        format!("{states:?}"),
        "[State { name: \"cache\", id: 11, fact: Fact { dtype: F32, shape: [2, 5] }, next: Some(7), \
         initial: Some(9) }]"
    );
    assert_eq!((&*producer, opset), ("us", 2));
    let quotient = "floordiv(-3*n^2*µ + 1, -3*n^2*µ + 1)";
    assert_eq!(symbols, ["n", "µ", quotient, &format!("max({quotient}, 0)")]);
    let port = |port: &Port| {
        format!("{} {} {:?} {}", port.id, port.name, port.role, port.describe(&symbols))
    };
    assert_eq!(port(&inputs[0]), "8 x NoiseSeed u32[-3*n^2*µ + 1]");
    assert_eq!(port(&outputs[0]), "10 y Plain u32[-3*n^2*µ + 1]");
    assert_eq!(
        format!("{:?}", tensors[0]),
        "Tensor { id: 9, name: \"w\", stored: Stored { fact: Fact { dtype: F32, shape: [3, 0] }, \
         offset: 64 }, quantization: Some(Quantization { bits: 4, axis: Some(0), scales: [0.5, 2.0], \
         zero_points: [-1.0], lut: Some((128, 16)) }) }"
    );
    let node = &nodes[0];
    assert_eq!((&*node.op, &*node.source), ("op", "m.py:1"));
    assert_eq!(node.fused, ["exp at m.py:2", ""]);
    assert_eq!((&*node.inputs, &*node.outputs), (&[0, 128, u32::MAX][..], &[7][..]));
    let attributes: Vec<String> =
        node.attributes.iter().map(|(name, value)| format!("{name} {value:?}")).collect();
    assert_eq!(
        attributes,
        [
            "flag Bool(true)",
            "float Float(-0.5)",
            "int Int(-9223372036854775808)",
            "ints Ints([0, -1, 9223372036854775807])",
            "region Region(Region { captures: [1, 300], inputs: 2, nodes: [Node { op: \"inner\", \
             inputs: [], outputs: [], attributes: Attributes([]), source: \"\", \
             fused: [], execution: None }], outputs: [5] })",
            "shape Shape([Dim { terms: [Term { coefficient: -3, factors: [Factor { symbol: 0, \
             power: 2 }, Factor { symbol: 1, power: 1 }] }, Term { coefficient: 1, factors: [] }] \
             }, Dim { terms: [] }])",
            "text Str(\"f32\")",
        ]
    );
    assert_eq!(
        format!("{:?}", tests[0]),
        "TestVector { inputs: [Stored { fact: Fact { dtype: I32, shape: [2, 1099511627776] }, \
         offset: 192 }], outputs: [Stored { fact: Fact { dtype: I32, shape: [2, 1099511627776] }, \
         offset: 256 }, Stored { fact: Fact { dtype: I32, shape: [2, 1099511627776] }, offset: 320 \
         }], absolute_tolerance: 1e-6, relative_tolerance: 0.001, entry: 1, continues: true }"
    );
    assert_eq!(
        format!("{:?} {:?}", wdm.unwrap(), crosstalk.unwrap()),
        "Wdm { wavelengths_nm: [1550.5], slot_of_stream: [0, 200] } Crosstalk { size: 1, matrix: \
         [0.25], compensation: \"none\", condition_number: 1.5 }"
    );
    assert_eq!(
        format!("{:?}", device.unwrap()),
        "Device { name: \"chip\", bank_rows: 2, bank_columns: 3, banks: 4, symbol_rate_hz: 5.5, \
         settling_s: 6.5, dac_bits: 7, weight_bits: 8, adc_bits: 9, dac_fom_j: 10.5, adc_fom_j: 11.5, \
         modulator_j: 12.5, laser_w: 13.5, ring_w: 14.5, amplifier_w: 15.5 }"
    );
    let [product] = &node.execution.as_ref().unwrap().products[..] else { panic!("one product") };
    assert_eq!(
        (&*product.layer, product.tile_rows, product.tile_columns, product.order.words()),
        ("Dense_0", 4, 300, "outputs first")
    );
    assert_eq!(product.inputs.display(&symbols).to_string(), "-3*n^2*µ + 1");
    assert_eq!((product.outputs.terms.len(), &*product.slots), (0, &[3, 200][..]));
}

fn symbol(index: u32) -> proto::Dim {
    let factors = vec![proto::Factor { symbol: index, power: 1 }];
    proto::Dim { terms: vec![proto::Term { coefficient: 1, factors }] }
}

/// Names of symbols that follow from others hold those, and would double with each.
#[test]
fn derived_symbols_are_few_and_in_order() {
    let derived = |index| proto::DerivedSymbol {
        kind: 1,
        left: Some(symbol(index)),
        right: Some(symbol(index)),
    };
    let refused = |derived: Vec<proto::DerivedSymbol>| {
        let graph = proto::Graph { symbols: vec!["n".into()], derived, ..Default::default() };
        decode(&graph.encode_to_vec(), 0).unwrap_err().to_string()
    };
    let text = refused((0..60).map(derived).collect());
    assert!(
        text.contains("derived symbol 10: all have more than 16384 terms and factors"),
        "{text}"
    );
    let text = refused(vec![derived(1)]);
    assert!(
        text.contains("derived symbol 0: is made of symbol 1, which is not before it"),
        "{text}"
    );
    let text = refused(vec![proto::DerivedSymbol { kind: 2, ..derived(0) }]);
    assert!(text.contains("derived symbol 0: unknown kind 2"), "{text}");
    let text = refused(vec![derived(0); 1025]);
    assert!(text.contains("`derived`: at most 1024, got 1025"), "{text}");
}

/// A reader of protobuf takes lists packed or not, skips what it does not know, and lets the last of
/// several values count.
#[test]
fn messages_of_other_writers_are_read() {
    let node = [
        field(1, b"wrong"),
        field(1, b"neg"),
        vec![2 << 3, 5],
        field(2, &[6, 0x80, 1]),
        vec![2 << 3, 7],
        field(9, b"new"),
        vec![10 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    let scales = [vec![3 << 3 | 5, 0, 0, 0, 0x40], field(3, &[0, 0, 0, 0x3f])].concat();
    let tensor = [vec![3 << 3, 1], field(6, &scales)].concat();
    let message = [field(6, &node.concat()), field(5, &tensor)].concat();
    let Graph { nodes, tensors, .. } = decode(&message, 0).unwrap().entries.remove(0);
    assert_eq!(nodes[0].op, "neg");
    assert_eq!(nodes[0].inputs, [5, 6, 128, 7]);
    assert_eq!(tensors[0].quantization.as_ref().unwrap().scales, [2.0, 0.5]);
}

#[test]
fn what_contradicts_the_schema_is_refused() {
    assert_eq!(refusal(&[1 << 3, 1]), "field 1 is of another type than in the schema");
    assert_eq!(refusal(&field(2, b"2")), "field 2 is of another type than in the schema");
    assert_eq!(refusal(&[6 << 3, 1]), "field 6 is of another type than in the schema");
    assert!(refusal(&field(1, &[0xff])).starts_with("a text is not UTF-8: "));
    assert_eq!(refusal(&field(9, &field(1, &[0; 7]))), "7 bytes are no list of 8-byte floats");
    assert_eq!(
        refusal(&field(3, &vec![b'a'; MAX_TEXT + 1])),
        "a text has 4097 bytes, the limit is 4096"
    );
    assert!(decode(&field(3, &vec![b'a'; MAX_TEXT]), 0).is_ok());
    let order =
        [6, 7, 1].iter().rev().fold(vec![6 << 3, 2], |inner, &number| field(number, &inner));
    assert_eq!(refusal(&order), "product 0 of an execution has the unknown order 2");
    // Two messages where there is one: the wavelengths, the crosstalk, the device, the quantization of
    // a tensor, the execution of a node, the inputs of a product, the value of an attribute, and what
    // that is.
    for (path, number) in [
        (&[][..], 9),
        (&[], 10),
        (&[], 15),
        (&[5], 6),
        (&[6], 7),
        (&[6, 7, 1], 2),
        (&[6, 7, 1], 3),
        (&[6, 4], 2),
    ] {
        let twice = [field(number, &[]), field(number, &[])].concat();
        let message = path.iter().rev().fold(twice, |inner, &number| field(number, &inner));
        assert_eq!(refusal(&message), format!("field {number} appears twice, expected once"));
    }
    for second in [field(5, &[]), vec![1 << 3, 1]] {
        let value = [field(5, &[]), second].concat();
        let message = [6, 4, 2].iter().rev().fold(value, |inner, &number| field(number, &inner));
        assert_eq!(refusal(&message), "an attribute has more than one value");
    }
    // In a message of every kind, however deep, a group is no way around the count. Those that have
    // an element type have f32.
    let inside = |path: &[u8]| {
        let typed = |message: Vec<u8>, (depth, &number): (usize, &u8)| match (depth, number) {
            (0, 4 | 5 | 7) => field(number, &[&[3 << 3, 1], &message[..]].concat()),
            _ => field(number, &message),
        };
        path.iter().enumerate().rev().fold(vec![0x7b, 0x7c], typed)
    };
    for path in [
        &[][..],
        &[4],
        &[5],
        &[5, 6],
        &[6],
        &[6, 4],
        &[6, 4, 2],
        &[6, 4, 2, 5],
        &[6, 4, 2, 6],
        &[6, 4, 2, 6, 1],
        &[6, 4, 2, 6, 1, 1],
        &[6, 4, 2, 6, 1, 1, 2],
        &[6, 4, 2, 7],
        &[6, 4, 2, 7, 3],
        &[7],
        &[8],
        &[8, 1],
        &[8, 2],
        &[9],
        &[10],
        &[15],
        &[6, 7],
        &[6, 7, 1],
        &[6, 7, 1, 2],
        &[6, 7, 1, 3],
    ] {
        let text = refusal(&inside(path));
        assert!(text.contains("field 15 is a group"), "{path:?}: {text}");
    }
}

#[test]
fn deep_regions_are_refused() {
    // Attribute 4 of a node is an entry whose field 2 is the value, whose field 7 is a region.
    let wrap = |node: Vec<u8>| field(4, &field(2, &field(7, &field(3, &node))));
    let nested = |depth: usize| field(6, &(0..depth).fold(Vec::new(), |node, _| wrap(node)));
    assert!(decode(&nested(MAX_DEPTH), 0).is_ok());
    for depth in [MAX_DEPTH + 1, 1000] {
        assert_eq!(refusal(&nested(depth)), "regions are nested more than 8 deep");
    }
}

/// Short messages that are much in memory, two megabytes of them.
#[test]
fn memory_has_a_bound() {
    let many = |path: &[u8], message: &[u8]| {
        let message = message.repeat((2 << 20) / message.len());
        path.iter().rev().fold(message, |message, &number| field(number, &message))
    };
    for (path, message) in [
        // Nodes, tensors, test vectors, nodes of a region.
        (&[][..], &[0x32, 0][..]),
        (&[], &[0x2a, 2, 0x18, 1]),
        (&[], &[0x42, 0]),
        (&[6, 4, 2, 7], &[0x1a, 0]),
        // Symbols and extents.
        (&[], &[0x1a, 0]),
        (&[6, 4, 2, 6], &[0x0a, 2, 0x0a, 0]),
        // Results of a node and captures of a region, each of which has a type.
        (&[6, 3], &[0]),
        (&[6, 4, 2, 7, 1], &[0]),
    ] {
        let message = many(path, message);
        let bound = (32 << 20) + 2 * message.len();
        assert_eq!(
            refusal(&message),
            format!("it would take more than {bound} bytes of memory"),
            "{path:?}"
        );
        // In a larger file they would be a small part.
        assert!(decode(&message, 1 << 30).is_ok(), "{path:?}");
    }
    assert_eq!(refusal(&vec![0; MAX_BYTES + 1]), "67108865 bytes, the limit is 67108864");
}
