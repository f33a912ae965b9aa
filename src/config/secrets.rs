//! Secrets: given as themselves by flag or variable, by the name of a variable, or by the path of a file. No message
//! ever repeats one.

use std::path::PathBuf;

use secrecy::SecretString;

use super::environment::Variable;
use super::faults::{Fault, Place};
use super::reader::{Found, Key, Reader};
use super::values::text;

/// The most bytes a file with a secret may have: 64 KiB. Far above any key; more is the wrong file.
const LARGEST_SECRET: u64 = 64 * 1024;

impl Reader<'_> {
    /// Reads a secret, given as itself (flag or variable), or as the path of a file that holds it. The strongest layer
    /// that has either wins; one layer that has both is a fault. `Ok(None)`: nowhere given. In the list as `***`.
    ///
    /// An account's secret never stands in the settings file itself: `named_by` is the key that names its variable there.
    /// Without `named_by` the file may hold `key`.
    pub(super) fn secret(&mut self, key: &Key, named_by: Option<&Key>) -> Result<Option<SecretString>, Fault> {
        match self.find_secret(key, named_by) {
            Ok(Some((secret, place))) => {
                self.show(&key.shown, Some("***".to_owned()), place);
                Ok(Some(secret))
            }
            Ok(None) => {
                self.show(&key.shown, None, Place::Default);
                Ok(None)
            }
            Err(fault) => {
                self.show(&key.shown, None, fault.place.clone());
                Err(fault)
            }
        }
    }

    fn find_secret(&mut self, key: &Key, named_by: Option<&Key>) -> Result<Option<(SecretString, Place)>, Fault> {
        let file_key = key.with_suffix("_file");
        let from_file = self.find(&file_key);
        let direct = match named_by {
            None => self.find(key),
            // The key itself must not stand in the file: it stays unasked there, and so unknown.
            Some(_) => self.find(&key.outside_the_file()),
        };
        let named = named_by.and_then(|named_by| self.find(named_by));
        let layer = |found: &Option<Found>| match found.as_ref().map(|found| &found.place) {
            None | Some(Place::Default) => 0,
            Some(Place::File { .. }) => 1,
            Some(Place::Variable(name)) if !name.starts_with("CAPTURE_") => 2,
            Some(Place::Variable(_)) => 3,
            Some(Place::Flag(_)) => 4,
        };
        let strongest = layer(&from_file).max(layer(&direct)).max(layer(&named));
        let at_strongest = |found: Option<Found>| if layer(&found) == strongest { found } else { None };
        let fault = |place: &Place, wrong: String, fix: &str| Fault {
            place: place.clone(),
            key: key.shown.clone(),
            wrong,
            fix: fix.to_owned(),
        };
        let given = [at_strongest(direct), at_strongest(named), at_strongest(from_file)];
        match given {
            [None, None, None] => Ok(None),
            [Some(direct), None, None] => match text(&direct.value) {
                Ok(text) => Ok(Some((SecretString::from(text), direct.place))),
                Err(_) => Err(fault(&direct.place, "is no text".to_owned(), "write it in quotes")),
            },
            [None, Some(named), None] => self.secret_of_variable(key, named).map(Some),
            [None, None, Some(path)] => self.secret_of_file(&file_key, path).map(Some),
            [first, second, third] => {
                let places: Vec<Place> = [first, second, third].into_iter().flatten().map(|f| f.place).collect();
                let place = places.last().cloned().unwrap_or(Place::Default);
                let others: Vec<String> = places.iter().map(Place::to_string).collect();
                Err(fault(
                    &place,
                    format!("is given twice ({})", others.join(" and ")),
                    "keep one of them",
                ))
            }
        }
    }

    /// The variable is only named in the message if it looks like a name: somebody may have put the secret itself there.
    fn secret_of_variable(&mut self, key: &Key, named: Found) -> Result<(SecretString, Place), Fault> {
        let fault = |wrong: String, fix: String| Fault {
            place: named.place.clone(),
            key: key.shown.clone() + "_env",
            wrong,
            fix,
        };
        let is_name =
            |name: &String| !name.is_empty() && name.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_'));
        let Some(name) = text(&named.value).ok().filter(is_name) else {
            return Err(fault(
                "names no environment variable".to_owned(),
                "write the variable's name, in capitals; the secret itself never stands in this file".to_owned(),
            ));
        };
        self.asked_variables.insert(name.clone());
        match self.environment.variable(&name) {
            Variable::Text(secret) => Ok((SecretString::from(secret), Place::Variable(name))),
            Variable::Unset => Err(fault(
                format!("the environment variable {name} is not set"),
                format!("set {name}, or put the secret into a file and name that in secret_file"),
            )),
            Variable::NotUnicode => Err(fault(
                format!("the environment variable {name} holds bytes that are not UTF-8"),
                format!("set {name} to plain text"),
            )),
        }
    }

    fn secret_of_file(&mut self, key: &Key, found: Found) -> Result<(SecretString, Place), Fault> {
        let fault = |wrong: String, fix: &str| Fault {
            place: found.place.clone(),
            key: key.shown.clone(),
            wrong,
            fix: fix.to_owned(),
        };
        let named = text(&found.value).map_err(|refusal| fault(refusal.wrong, &refusal.fix))?;
        let path = match &found.place {
            Place::File { .. } => self.file_directory.join(&named),
            _ => PathBuf::from(&named),
        };
        let shown = path.display().to_string();
        let unreadable = |error: std::io::Error| {
            fault(
                format!("{shown} cannot be read: {error}"),
                "name a file that this process may read",
            )
        };
        let size = std::fs::metadata(&path).map_err(unreadable)?.len();
        if size > LARGEST_SECRET {
            return Err(fault(
                format!("{shown} has {size} bytes, more than any secret"),
                "name the file that holds the secret and nothing else",
            ));
        }
        let bytes = std::fs::read(&path).map_err(unreadable)?;
        let Ok(secret) = String::from_utf8(bytes) else {
            return Err(fault(
                format!("{shown} is not UTF-8"),
                "put the secret there as plain text",
            ));
        };
        // Editors and `echo` leave a line break at the end; no secret ends with one.
        let secret = secret.trim_end_matches(['\r', '\n']);
        if secret.is_empty() {
            return Err(fault(format!("{shown} is empty"), "put the secret into it"));
        }
        Ok((
            SecretString::from(secret),
            Place::File {
                file: shown.clone(),
                line: 0,
            },
        ))
    }
}
