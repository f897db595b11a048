// A room in React. `npm install` in web-demo, `npm start` here, and open http://localhost:8000
// beside a gateway on this machine; ?gateway= names another, which must know this page's origin.

import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { useRoom } from "dormouse-client/react";

const query = new URLSearchParams(location.search);
const gateway = query.get("gateway") ?? "http://localhost:4433";
const name = query.get("name") ?? "somebody";

function Chat() {
  const { room, status, messages, members } = useRoom("example", { gateway, name });
  const here = members.filter(({ away }) => !away); // who reloads the page is away for a while
  const [text, setText] = useState("");
  const say = (event) => {
    event.preventDefault();
    if (text) room.publish({ text }).catch((error) => alert(error.message));
    setText("");
  };
  return (
    <>
      <h1>A room in React</h1>
      <p>
        <span id="status">{status.error?.message ?? status.transport ?? status.state}</span>, <span id="here">{here.length}</span> here
      </p>
      <ol id="messages">
        {messages.map(({ seq, from, data }) => (
          <li key={seq}>
            {from.name}: {data.text}
          </li>
        ))}
      </ol>
      <form onSubmit={say}>
        <input value={text} onChange={({ target }) => setText(target.value)} aria-label="Message" />
        <button disabled={!room}>Send</button>
      </form>
    </>
  );
}

createRoot(document.body).render(
  <StrictMode>
    <Chat />
  </StrictMode>,
);
