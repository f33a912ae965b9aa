//! Every text can be read: WCAG 2.2 AA, from the tokens of the style sheet, light and dark.
#![expect(clippy::float_arithmetic, reason = "colours, not money")]

use std::collections::BTreeMap;

const SHEET: &str = include_str!("../../assets/console.css");

/// Text and the grounds that it stands on.
const PAIRS: [(&str, &[&str]); 9] = [
    ("text", &["ground", "surface", "raised", "accent-ground"]),
    ("quiet", &["ground", "surface", "raised", "accent-ground"]),
    ("accent", &["ground", "surface", "raised", "accent-ground"]),
    ("good", &["surface", "raised", "good-ground"]),
    ("warn", &["surface", "raised", "warn-ground"]),
    ("bad", &["surface", "raised", "bad-ground"]),
    ("on-accent", &["accent"]),
    ("ground", &["text"]),
    ("focus", &["ground", "surface"]),
];

fn tokens(block: &str) -> BTreeMap<&str, &str> {
    let lines = block
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--")?.trim_end_matches(';').split_once(": "));
    lines.filter(|(_, value)| value.starts_with('#')).collect()
}

fn luminance(colour: &str) -> f64 {
    let channel = |at: usize| {
        let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
        if value <= 0.040_45 {
            value / 12.92
        } else {
            ((value + 0.055) / 1.055).powf(2.4)
        }
    };
    0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
}

#[test]
fn every_text_has_a_contrast_of_four_and_a_half_in_light_and_in_dark() {
    let (light, dark) = SHEET.split_once("@media (prefers-color-scheme: dark)").unwrap();
    let (dark, _) = dark.split_once("\n*,").unwrap();
    let light = tokens(light);
    let mut both = light.clone();
    both.extend(tokens(dark));
    assert!(light.len() > 15 && both != light);
    for (name, theme) in [("light", light), ("dark", both)] {
        for (text, grounds) in PAIRS {
            for ground in grounds {
                let (one, other) = (luminance(theme[text]), luminance(theme[*ground]));
                let ratio = (one.max(other) + 0.05) / (one.min(other) + 0.05);
                assert!(ratio >= 4.5, "{name}: {text} on {ground} has {ratio:.2}");
            }
        }
    }
}
