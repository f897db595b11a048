// What `npm create vite` makes for React, with a room in it. tests/browser/strict-mode.mjs opens it.

import { StrictMode, useState } from "react";
import { flushSync } from "react-dom";
import { createRoot } from "react-dom/client";
import { useRoom } from "dormouse-client/react";

const query = new URLSearchParams(location.search);
const options = { gateway: query.get("gateway"), name: query.get("name"), save: query.has("save") };

function Lobby() {
  const { room, status, members } = useRoom("meadow", options);
  return (
    <p id="lobby" data-state={status.state} data-sid={room?.sid}>
      {members.map(({ name }) => name).join(", ")}
    </p>
  );
}

function App() {
  const [isShown, setShown] = useState(true);
  const show = (next) => flushSync(() => setShown(next));
  const flicker = () => {
    for (let n = 0; n < 5; n++) {
      show(false);
      show(true);
    }
  };
  return (
    <>
      <button id="flicker" onClick={flicker}>Flicker</button>
      <button id="hide" onClick={() => show(false)}>Hide</button>
      {isShown && <Lobby />}
    </>
  );
}

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
