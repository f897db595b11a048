// Whether what is written can be read: WCAG 2, level AA.

/**
 * Runs in the page. All visible texts with less contrast than 4.5 : 1, or 3 : 1 where the text is
 * large, as `"text" 3.21`. What is disabled may be faint.
 */
export function faintTexts() {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const faint = [];

  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    const text = node.data.trim();
    const element = node.parentElement;
    if (text && isSeen(element)) check(element, text, getComputedStyle(element));
  }
  for (const field of document.querySelectorAll("input:not([type=radio]), textarea")) {
    if (!isSeen(field)) continue;
    if (field.value) check(field, field.value, getComputedStyle(field));
    else if (field.placeholder) check(field, field.placeholder, getComputedStyle(field, "::placeholder"));
  }
  return faint;

  function isSeen(element) {
    return (
      element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) &&
      !element.closest("svg, template, noscript, style, script, .unseen, :disabled")
    );
  }

  function check(element, text, style) {
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const least = Math.min(...grounds(element).map((ground) => contrast(over(rgba(style.color, opacity(element)), ground), ground)));
    if (least < (isLarge ? 3 : 4.5)) faint.push(`"${text.slice(0, 40)}" ${least.toFixed(2)}`);
  }

  /** What may lie behind an element: one colour, or those of a gradient. */
  function grounds(element) {
    const above = [];
    for (let it = element; it; it = it.parentElement) {
      const { backgroundColor, backgroundImage } = getComputedStyle(it);
      const gradient = backgroundImage.match(/(?:rgba?|oklch|oklab|color)\([^)]*\)/g);
      const layers = (gradient ?? [backgroundColor]).map((colour) => rgba(colour));
      above.push(layers);
      if (layers.every(([, , , alpha]) => alpha === 1)) break;
    }
    return above.reverse().reduce((below, layers) => below.flatMap((ground) => layers.map((layer) => over(layer, ground))), [[255, 255, 255, 1]]);
  }

  function opacity(element) {
    let product = 1;
    for (let it = element; it; it = it.parentElement) product *= Number(getComputedStyle(it).opacity);
    return product;
  }

  /** Any CSS colour as red, green, blue up to 255 and alpha up to 1. */
  function rgba(colour, opacity = 1) {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, (alpha / 255) * opacity];
  }

  function over([red, green, blue, alpha], ground) {
    return [...[red, green, blue].map((part, i) => part * alpha + ground[i] * (1 - alpha)), 1];
  }

  function contrast(one, other) {
    const [dark, bright] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05);
  }

  function luminance(colour) {
    const [red, green, blue] = colour.slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  }
}
