// Everybody has a colour: one's own, chosen by chance once and kept in this browser, and those
// that others say they have.

export const PALETTE = ["#e8590c", "#e0a100", "#5c940d", "#0ca678", "#1098ad", "#4263eb", "#9c36b5", "#e64980"];

const SLOT = "dormouse.color";

/** This visitor's colour. */
export function ownColour() {
  const kept = localStorage.getItem(SLOT);
  if (PALETTE.includes(kept)) return kept;
  return keepColour(PALETTE[Math.floor(Math.random() * PALETTE.length)]);
}

export function keepColour(colour) {
  localStorage.setItem(SLOT, colour);
  return colour;
}

/**
 * The colour of a member, or of somebody who has left: by what the attachment says if that is a
 * colour at all (it is a stranger's word), else by the name. The style sheet takes the hue from
 * it and keeps the lightness that can be read.
 */
export function colourOf(member, name = member?.name) {
  const said = member?.attachment?.color;
  if (typeof said === "string" && /^(#[0-9a-f]{6}|[a-z]{3,20})$/i.test(said) && CSS.supports("color", said)) {
    return said;
  }
  return `oklch(65% 0.14 ${hue(name ?? "")})`;
}

function hue(name) {
  let sum = 0;
  for (const char of name) sum = (sum * 31 + char.codePointAt(0)) % 3_600;
  return sum / 10;
}
