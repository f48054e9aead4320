"""A practice: appointments, prescription renewals, and a check of interactions. Nothing leaves the device."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from labkit.agents.scenarios.scenario import Data, Scenario, Task, wish

SCHEMA = """
create table slots (doctor text, day text, time text, patient text);
create table prescriptions (patient text, medicine text, renewals integer);
create table interactions (first text, second text, effect text);
"""
DOCTORS = ("Dr. Okafor", "Dr. Lindqvist", "Dr. Haddad", "Dr. Tanaka")
PATIENTS = ("Mira Novak", "Tom Baker", "Aisha Rahman", "Luis Ortega", "Hanna Weber", "Chen Li")
MEDICINES = ("ibuprofen", "warfarin", "metformin", "simvastatin", "lisinopril", "aspirin", "amoxicillin")
# Real pairs, shortened for teaching. No advice: a lesson's table is not complete.
INTERACTIONS = (
    ("warfarin", "aspirin", "bleeding"),
    ("warfarin", "ibuprofen", "bleeding"),
    ("lisinopril", "ibuprofen", "kidney damage"),
    ("simvastatin", "amoxicillin", "none known"),
    ("metformin", "aspirin", "none known"),
    ("metformin", "lisinopril", "low blood sugar"),
)


def fill(data: Data, rng: random.Random) -> None:
    """Give every doctor free days, every patient two medicines."""
    for doctor in DOCTORS:
        for day in sorted(rng.sample(range(1, 29), 12)):
            when = f"2026-12-{day:02}", f"{rng.randrange(8, 17):02}:30"
            data.rows("insert into slots values (?, ?, ?, '')", doctor, *when)
    for patient in PATIENTS:
        for medicine in rng.sample(MEDICINES, 2):
            data.rows("insert into prescriptions values (?, ?, ?)", patient, medicine, rng.randrange(1, 4))
    for row in INTERACTIONS:
        data.rows("insert into interactions values (?, ?, ?)", *row)


def tools(data: Data) -> list[Callable[..., Any]]:
    """Return what the desk can do."""

    def book_appointment(doctor: str, date: str) -> dict[str, Any]:
        """Book an appointment with a doctor."""
        free = "select time from slots where doctor = ? and day = ? and patient = ''"
        slot = data.one("free slot of", free, doctor, date)
        data.rows("update slots set patient = 'caller' where doctor = ? and day = ?", doctor, date)
        return {"status": "booked", "time": slot["time"]}

    def renew_prescription(medicine: str, patient: str) -> dict[str, Any]:
        """Renew a prescription for a patient."""
        known = "select renewals from prescriptions where medicine = ? and patient = ?"
        left = data.one("prescription of", known, medicine, patient)["renewals"] - 1
        if left < 0:
            return {"status": "the doctor has to see the patient first"}
        spent = "update prescriptions set renewals = ? where medicine = ? and patient = ?"
        data.rows(spent, left, medicine, patient)
        return {"status": "renewed", "renewals_left": left}

    def check_interaction(first: str, second: str) -> dict[str, Any]:
        """Check whether two medicines interact."""
        pair = "select effect from interactions where ? in (first, second) and ? in (first, second)"
        return data.one("entry for", pair, first, second)

    return [book_appointment, renew_prescription, check_interaction]


def tasks(data: Data, rng: random.Random) -> Iterator[Task]:
    """Make wishes of callers."""
    slots, known = data.rows("select * from slots"), data.rows("select * from prescriptions")
    while True:
        slot, held = rng.choice(slots), rng.choice(known)
        doctor, day = slot["doctor"], slot["day"]
        asks = [
            f"Book an appointment with {doctor} on {day}.",
            f"Can I see {doctor} on {day}?",
            f"I need to see {doctor} on {day}.",
        ]
        yield wish(rng, asks, "appointment", "book_appointment", slot["time"], doctor=doctor, date=day)
        medicine, patient = held["medicine"], held["patient"]
        asks = [
            f"Renew the prescription {medicine} for {patient}.",
            f"{patient} is out of {medicine}.",
            f"{patient} needs more {medicine}.",
        ]
        yield wish(rng, asks, "renewal", "renew_prescription", medicine=medicine, patient=patient)
        one, other, effect = rng.choice(INTERACTIONS)
        asks = [f"Check the interaction of {one} and {other}.", f"Do {one} and {other} interact?"]
        yield wish(rng, asks, "interaction", "check_interaction", effect, first=one, second=other)


ABOUT = "a practice: appointments, prescriptions, interactions"
SCENARIO = Scenario("health", ABOUT, SCHEMA, fill, tools, tasks, "You are at the desk of a practice.")
