//! HTTP triggers of a Spin application: components at paths, private components, and fixed answers.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::keys::instead_of;
use super::{App, At, FixedRead, Manifest, Reader, RouteRead, Section};
use crate::config::problem::Kind;
use crate::config::reader::units::count;
use crate::route::{Fixed, PathPattern};

const FIXED_HEADERS_MAX: usize = 50;

impl Manifest<'_> {
    /// One `[[trigger.http]]`: a component at a path, one that only other components of its application can reach, or a
    /// fixed answer.
    pub(super) fn http_trigger(&self, section: &Section<'_>, app: &mut App) -> Option<()> {
        self.executor(section);
        if let Some(answer) = section.section("static_response") {
            if let Some(component) = section.has("component") {
                let summary = "a trigger has a component and a fixed answer".to_owned();
                let found = "`component` beside `static_response`".to_owned();
                self.reader.bad(Kind::KeysDisagree, &component, summary, found, "one of them");
            }
            let path = self.path(section);
            let answer = fixed(self.reader, &answer)?;
            app.fixed.push(FixedRead { path: path?, answer });
            return Some(());
        }
        let component = self.of_trigger(section, app);
        let is_private = Self::is_private(section);
        if let Some(component) = &component {
            self.around(section, component, app, !is_private);
            if is_private {
                app.private.push(component.value.clone());
            }
        }
        self.route(section, component?, app)
    }

    /// How Spin would call the component. The gateway learns that from the component's exports.
    pub(super) fn executor(&self, section: &Section<'_>) {
        let Some(executor) = section.section("executor") else { return };
        let kind = executor.string("type");
        if let Some(kind) = kind.filter(|kind| !["http", "spin"].contains(&kind.value.as_str())) {
            let (problem, says, wanted) = if kind.value == "wagi" {
                // These keys belong to it.
                for key in ["argv", "entrypoint"] {
                    executor.has(key);
                }
                (Kind::NotServed, "is not served here", instead_of("trigger.http.executor", "argv"))
            } else {
                (Kind::BadValue, "has an invalid value", "\"http\" or \"spin\"")
            };
            let summary = format!("`{}` {says}", executor.path("type"));
            self.reader.bad(problem, &kind.place, summary, format!("{:?}", kind.value), wanted);
        }
        executor.finish();
    }

    /// Whether `route = { private = true }`.
    fn is_private(section: &Section<'_>) -> bool {
        section.look_quietly("route", |value| {
            let private = value.as_table().filter(|table| table.len() == 1)?.get("private")?;
            private.get_ref().as_bool()
        }) == Some(true)
    }

    /// Adds the route of a component, unless clients cannot reach the component.
    pub(super) fn route(&self, section: &Section<'_>, component: At<String>, app: &mut App) -> Option<()> {
        if !Self::is_private(section) {
            let path = self.path(section)?;
            app.routes.push(RouteRead { place: section.place(), path, component, limits: Default::default() });
        }
        Some(())
    }

    fn path(&self, section: &Section<'_>) -> Option<At<PathPattern>> {
        const WANTED: &str =
            "a path such as \"/exact\", \"/users/:id\", \"/:id.json\" or \"/files/...\", or { private = true }";
        let path = section.take("route", WANTED, |value| PathPattern::spin(value.as_str()?).ok());
        section.required("route", path, "route = \"/...\"")
    }
}

/// `static_response`: a status, headers and a text.
fn fixed(reader: &Reader, section: &Section<'_>) -> Option<Fixed> {
    let status = section.take("status_code", "a status from 200 to 599", |value| {
        let status = u16::try_from(count(value)?).ok().filter(|status| (200..600).contains(status))?;
        StatusCode::from_u16(status).ok()
    });
    let status = if section.has("status_code").is_some() { status?.value } else { StatusCode::OK };
    let mut headers = HeaderMap::new();
    for (name, value) in section.section("headers").iter().flat_map(|headers| {
        headers.entries("a valid header value", |name, value| {
            HeaderName::try_from(name).ok()?;
            HeaderValue::try_from(value.as_str()?).ok()
        })
    }) {
        headers.insert(HeaderName::try_from(name.value).ok()?, value);
    }
    let body = section.string("body").map(|body| body.value).unwrap_or_default();
    section.finish();
    if headers.len() > FIXED_HEADERS_MAX {
        let summary = "this answer has too many headers".to_owned();
        reader.bad(Kind::TooMany, &section.place(), summary, headers.len().to_string(), "50 at most");
        return None;
    }
    Some(Fixed { status, headers, body: body.into() })
}
