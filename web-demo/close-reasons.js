// What went wrong, to a person.

const SENTENCES = {
  4000: "The gateway is restarting.",
  4002: "This page was too slow to follow and starts again from where it was.",
  4003: "The room's log starts again.",
  4004: "The gateway had not heard from this page for a while.",
  4005: "Too much was sent in too short a time.",
  4007: "The gateway's store is unwell.",
  4500: "The gateway does not accept this visitor.",
  4501: "The pass for this room has run out.",
  4502: "This room is not open to you.",
  4503: "The page did not introduce itself in time.",
  4504: "The gateway did not understand this page.",
  4505: "The room was deleted.",
  4506: "The room is full.",
  4507: "You were asked to leave.",
  4508: "Your seat was taken over by another tab.",
  4510: "A message was too large.",
};

/** A sentence for one of the client's errors. */
export function explain(error) {
  return SENTENCES[error.closeCode] ?? `${error.message.charAt(0).toUpperCase()}${error.message.slice(1)}.`;
}
