//! The id of an intent on the command line.

use uuid::Uuid;

/// Reads an id; what is none is told with where to find one.
pub fn intent_id(text: &str) -> Result<Uuid, String> {
    Uuid::try_parse(text).map_err(|_| {
        "ids are whole uuids; capture list -o id prints them (| grep for one of which you have the end), capture list \
         --order N finds them"
            .to_owned()
    })
}
