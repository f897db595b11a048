// Waiting for something to become true, with an end.

export const DEADLINE_MS = 20_000;

/** Resolves with the first truthy value of `probe`; fails with `what` and how things stood. */
export async function until(what, probe, howThingsStand = () => "") {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const value = await probe();
    if (value) return value;
    if (Date.now() > deadline) {
      throw new Error(`${DEADLINE_MS / 1000} s passed before ${what}\n${await howThingsStand()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Fails when `promise` takes longer than everything here may take. */
export function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${DEADLINE_MS / 1000} s passed before ${what}`)), DEADLINE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
