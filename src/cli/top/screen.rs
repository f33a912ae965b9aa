//! The terminal while `top` has it: its other screen, no cursor, keys at once. Given back as it was, however it ends.

use std::io::{IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio_util::sync::CancellationToken;

use crate::cli::output::{Error, Output};

const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l";
const LEAVE: &[u8] = b"\x1b[?25h\x1b[?1049l";

/// No key (_POSIX_VDISABLE).
const DISABLED: u8 = 0;

/// The terminal.
pub struct Screen {
    before: Option<Termios>,
    left: CancellationToken,
}

impl Screen {
    /// Takes it.
    pub fn open() -> Result<Screen, Error> {
        let stdin = std::io::stdin();
        let mut screen = Screen {
            before: None,
            left: CancellationToken::new(),
        };
        if stdin.is_terminal() {
            let before = tcgetattr(&stdin).map_err(std::io::Error::from)?;
            let mut keys = before.clone();
            // Ctrl-C stays a signal.
            keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            // Stopped (Ctrl-Z) or aborted (Ctrl-\) it could not give the terminal back.
            for key in [SpecialCodeIndex::VSUSP, SpecialCodeIndex::VQUIT] {
                keys.special_codes[key] = DISABLED;
            }
            tcsetattr(&stdin, OptionalActions::Now, &keys).map_err(std::io::Error::from)?;
            screen.before = Some(before);
            let left = screen.left.clone();
            std::thread::spawn(move || {
                for byte in std::io::stdin().lock().bytes() {
                    match byte {
                        Ok(b'q' | b'Q') => left.cancel(),
                        Ok(_) => {}
                        Err(_) => break,
                    }
                }
            });
        }
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(ENTER)?;
        stdout.flush()?;
        Ok(screen)
    }

    /// Until somebody presses q.
    pub async fn left(&self) {
        self.left.cancelled().await;
    }

    /// The output at the size that the terminal has now.
    pub fn output(&self, output: &Output) -> Output {
        Output {
            width: Some(self.size().0),
            ..*output
        }
    }

    fn size(&self) -> (u16, u16) {
        let size = tcgetwinsize(std::io::stdout()).ok();
        let size = size.map(|size| (size.ws_col, size.ws_row));
        size.filter(|(columns, rows)| *columns > 0 && *rows > 0)
            .unwrap_or((80, 24))
    }

    /// Draws over what was there, without a flicker; what does not fit is cut.
    pub fn draw(&self, lines: &[String]) -> Result<(), Error> {
        let (columns, rows) = self.size();
        let mut page = String::from("\x1b[H");
        for (place, line) in lines.iter().take(usize::from(rows)).enumerate() {
            if place > 0 {
                page.push_str("\r\n");
            }
            page.extend(line.chars().take(usize::from(columns)));
            page.push_str("\x1b[K");
        }
        page.push_str("\x1b[J");
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(page.as_bytes())?;
        stdout.flush()?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(LEAVE);
        let _ = stdout.flush();
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}
