// The token stands behind # in the address: the server sees it only in this request.
const status = document.getElementById("status");
const token = location.hash.slice(1);
history.replaceState(null, "", "/join");

async function join() {
  if (!token) {
    status.textContent = "Scan the code on the computer's screen with this phone's camera.";
    return;
  }
  const answer = await fetch("/api/join", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Ecgscan": "1" },
    body: JSON.stringify({ token }),
  });
  if (answer.ok) {
    location.replace("/");
    return;
  }
  const said = await answer.json().catch(() => ({}));
  status.textContent = `Not connected: ${said.message ?? "the computer did not answer"}.`;
}

join().catch(() => {
  status.textContent = "The computer can't be reached: are both in the same network?";
});
