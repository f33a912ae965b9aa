//! The guide of the night shift is for people without the program at hand; what it says of a name is what the program says.

use serde_json::Value;

use crate::place::Place;

const BEGIN: &str = "<!-- What follows is written from src/cli/explanations.rs; a test holds the two together. -->\n";

#[tokio::test]
async fn the_guide_of_the_night_shift_says_what_the_program_says() {
    let told = Place::empty().run(&["dead", "explain", "-o", "json"]).await;
    let explanations: Vec<Value> = told.ends_with(0).json().as_array().unwrap().clone();
    let mut said = String::new();
    for (of, heading) in [
        ("alert", "Alerts"),
        ("class", "Classes of failures"),
        ("dead_reason", "Dead reasons"),
    ] {
        said.push_str(&format!("## {heading}\n\n"));
        for explanation in explanations.iter().filter(|explanation| explanation["of"] == of) {
            let text = |name: &str| explanation[name].as_str().unwrap().replace('<', "\\<");
            said.push_str(&format!(
                "### `{}`\n\n{}\n\n- **Look at** {}\n- **Do** {}\n\n",
                text("name"),
                text("means"),
                text("look"),
                text("do")
            ));
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ops.md");
    let guide = std::fs::read_to_string(path).unwrap();
    let (before, _) = guide.split_once(BEGIN).unwrap();
    let whole = format!("{before}{BEGIN}\n{}\n", said.trim_end());
    if std::env::var_os("RENEW").is_some() {
        std::fs::write(path, &whole).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).unwrap() == whole,
        "docs/ops.md is old; renew it: RENEW=1 cargo test --test cli guide"
    );
}
