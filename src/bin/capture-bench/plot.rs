//! Bars of what was measured, as SVG: the median of all rounds, and a line from the least to the most.

use std::path::{Path, PathBuf};

use anyhow::Context;
use plotters::prelude::*;
use serde_json::Value;

use super::figures::Spread;
use super::report::short;
use super::scenario::Scenario;

/// One picture: which figure of which cases.
struct Plot {
    file: &'static str,
    title: &'static str,
    figures: &'static [Picked],
}

/// A scenario's figure, of all cases whose name contains that.
struct Picked {
    scenario: Scenario,
    case: &'static str,
    figure: &'static str,
    /// What the bar is called, before the case's name.
    prefix: &'static str,
}

const PLOTS: [Plot; 4] = [
    Plot {
        file: "provider.svg",
        title: "a provider that takes 20 ms, 64 at once: captures or jobs a second",
        figures: &[
            of(Scenario::B, "HTTP client, 64 in flight", "captures", "ceiling: "),
            of(Scenario::B, "worker, 64 in flight", "captures", "capture: "),
            of(Scenario::Peers, ", http 64", "jobs", ""),
        ],
    },
    Plot {
        file: "provider_cpu.svg",
        title: "the same: CPU of worker and Postgres, ms per 1,000",
        figures: &[
            of(Scenario::B, "bare loop, 64 in flight", "CPU in all", "floor: "),
            of(Scenario::B, "worker, 64 in flight", "CPU in all", "capture: "),
            of(Scenario::Peers, ", http 64", "CPU in all", ""),
        ],
    },
    Plot {
        file: "drain.svg",
        title: "nothing to call: captures or jobs a second",
        figures: &[
            of(Scenario::A, "raw SQL", "captures", "ceiling: "),
            of(Scenario::A, "worker", "captures", "capture: "),
            of(Scenario::Peers, ", noop", "jobs", ""),
        ],
    },
    Plot {
        file: "snapshot.svg",
        title: "200 captures a second: committed to provider, p99, ms",
        figures: &[of(Scenario::E, "200/s", "committed to provider, p99", "capture: ")],
    },
];

const fn of(scenario: Scenario, case: &'static str, figure: &'static str, prefix: &'static str) -> Picked {
    Picked {
        scenario,
        case,
        figure,
        prefix,
    }
}

const WIDTH: u32 = 860;
const BAR: u32 = 30;
const COLOUR: RGBColor = RGBColor(47, 111, 159);
const OURS: RGBColor = RGBColor(31, 122, 77);
/// What the machine would give without the product.
const CEILING: RGBColor = RGBColor(150, 150, 150);

/// Writes the pictures for which something was measured, from what `-o json` prints; tells their files.
pub fn draw(document: &Value, into: &Path) -> anyhow::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(into).with_context(|| format!("{} cannot be made", into.display()))?;
    let mut drawn = Vec::new();
    for plot in &PLOTS {
        let mut bars: Vec<(String, Spread)> = Vec::new();
        for picked in plot.figures {
            bars.extend(spreads(document, picked).map(|(case, spread)| (format!("{}{case}", picked.prefix), spread)));
        }
        if bars.is_empty() {
            continue;
        }
        bars.sort_by(|(_, a), (_, b)| a.median.total_cmp(&b.median));
        let file = into.join(plot.file);
        let svg = bars_as_svg(plot.title, &bars)?;
        std::fs::write(&file, svg).with_context(|| format!("{} cannot be written", file.display()))?;
        drawn.push(file);
    }
    anyhow::ensure!(
        !drawn.is_empty(),
        "nothing of what can be drawn (A, B, E, PEERS) was measured"
    );
    Ok(drawn)
}

/// The picked figure, of each case that has it.
fn spreads<'a>(document: &'a Value, picked: &'a Picked) -> impl Iterator<Item = (&'a str, Spread)> {
    let all = |value: &'a Value, name: &str| value.get(name).and_then(Value::as_array).into_iter().flatten();
    all(document, "scenarios")
        .filter(|scenario| scenario.get("scenario").and_then(Value::as_str) == Some(picked.scenario.name()))
        .flat_map(move |scenario| all(scenario, "cases"))
        .filter_map(move |case| {
            let name = case.get("case")?.as_str()?;
            let figure = all(case, "figures")
                .find(|figure| figure.get("figure").and_then(Value::as_str) == Some(picked.figure))?;
            let of = |name: &str| figure.get("spread")?.get(name)?.as_f64();
            let spread = Spread {
                min: of("min")?,
                median: of("median")?,
                max: of("max")?,
            };
            name.contains(picked.case).then_some((name, spread))
        })
}

/// The first bar is at the bottom.
fn bars_as_svg(title: &str, bars: &[(String, Spread)]) -> anyhow::Result<String> {
    let most = bars.iter().map(|(_, spread)| spread.max).fold(0.0, f64::max);
    let mut svg = String::new();
    {
        let height = BAR * u32::try_from(bars.len())? + 90;
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        let trouble = |error: DrawingAreaErrorKind<_>| anyhow::anyhow!("{title}: {error}");
        area.fill(&WHITE).map_err(trouble)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .margin_right(70)
            .x_label_area_size(30)
            .y_label_area_size(230)
            .build_cartesian_2d(0.0..most.max(f64::MIN_POSITIVE), (0..bars.len()).into_segmented())
            .map_err(trouble)?;
        let label = |at: &SegmentValue<usize>| match at {
            SegmentValue::CenterOf(place) | SegmentValue::Exact(place) => {
                bars.get(*place).map_or(String::new(), |(label, _)| label.clone())
            }
            SegmentValue::Last => String::new(),
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(bars.len())
            .y_label_formatter(&label)
            .x_max_light_lines(1)
            .x_label_formatter(&|value| if *value > 0.0 { short(*value) } else { "0".to_owned() })
            .label_style(("sans-serif", 14))
            .draw()
            .map_err(trouble)?;
        for (place, (label, spread)) in bars.iter().enumerate() {
            let colour = match label.split_once(": ") {
                Some(("capture", _)) => OURS,
                Some(("ceiling" | "floor", _)) => CEILING,
                _ => COLOUR,
            };
            let mut bar = Rectangle::new(
                [
                    (0.0, SegmentValue::Exact(place)),
                    (spread.median, SegmentValue::Exact(place + 1)),
                ],
                colour.filled(),
            );
            bar.set_margin(5, 5, 0, 0);
            let line = PathElement::new(
                [
                    (spread.min, SegmentValue::CenterOf(place)),
                    (spread.max, SegmentValue::CenterOf(place)),
                ],
                BLACK,
            );
            let value = EmptyElement::at((spread.max, SegmentValue::CenterOf(place)))
                + Text::new(short(spread.median), (6, -7), ("sans-serif", 14));
            chart.draw_series([bar]).map_err(trouble)?;
            chart.draw_series([line]).map_err(trouble)?;
            chart.draw_series([value]).map_err(trouble)?;
        }
        area.present().map_err(trouble)?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bar_has_its_name_and_its_median() {
        let spread = |median| Spread {
            min: median * 0.9,
            median,
            max: median * 1.1,
        };
        let bars = [
            ("capture: worker".to_owned(), spread(1234.0)),
            ("other <1>".to_owned(), spread(2.5)),
        ];
        let svg = bars_as_svg("captures a second", &bars).unwrap_or_default();
        for text in [
            "captures a second",
            "capture: worker",
            "1,234",
            "other &lt;1&gt;",
            "2.50",
        ] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        assert_eq!(svg.matches("<rect").count(), 1 + bars.len(), "{svg}");
    }
}
