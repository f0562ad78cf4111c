//! Schedules of a Spin application: `[[trigger.cron]]` of Spin's cron plugin.

use super::{App, At, Manifest, Section};
use crate::config::files::tenant::ScheduleRead;
use crate::config::problem::Kind;
use crate::route::{EXPRESSION, Expression};

impl Manifest<'_> {
    /// One `[[trigger.cron]]`: a component, and when it is due, in UTC.
    pub(super) fn cron_trigger(&self, section: &Section<'_>, app: &mut App) -> Option<()> {
        let component = self.of_trigger(section, app);
        let text = section.string("cron_expression");
        let text = section.required("cron_expression", text, "cron_expression = \"0 */5 * * * *\"");
        section.finish();
        let expression = text.and_then(|text| self.expression(section, text));
        app.schedules.push(ScheduleRead { expression: expression?, component: component? });
        Some(())
    }

    fn expression(&self, section: &Section<'_>, text: At<String>) -> Option<At<Expression>> {
        match Expression::parse(&text.value) {
            Ok(value) => Some(At { value, place: text.place }),
            Err(why) => {
                let summary = format!("`{}` is not a valid cron expression", section.path("cron_expression"));
                let found = format!("{:?}: {why}", text.value);
                self.reader.bad(Kind::BadValue, &text.place, summary, found, EXPRESSION);
                None
            }
        }
    }
}
