// Command whoami is a workload like any other that uses go-spiffe: it asks its Workload API who it is, checks the
// answer the way a peer would, and prints it as JSON.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

const audience = "interop"

type answer struct {
	X509 string `json:"x509"` // the SPIFFE ID in our X509-SVID, verified against its bundle
	JWT  string `json:"jwt"`  // the SPIFFE ID in our JWT-SVID, verified against its bundle
	API  string `json:"api"`  // the same token, as ValidateJWTSVID sees it
	Hint string `json:"hint"`
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	found, err := whoami(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		log.Fatal(err)
	}
}

func whoami(ctx context.Context) (found answer, err error) {
	client, err := workloadapi.New(ctx)
	if err != nil {
		return found, err
	}
	defer client.Close()

	// A source waits for the entry to arrive at the node agent; a single fetch would not.
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClient(client))
	if err != nil {
		return found, err
	}
	defer source.Close()
	svid, err := source.GetX509SVID()
	if err != nil {
		return found, err
	}
	id, _, err := x509svid.Verify(svid.Certificates, source)
	if err != nil {
		return found, err
	}
	found.X509, found.Hint = id.String(), svid.Hint

	token, err := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: audience})
	if err != nil {
		return found, err
	}
	bundles, err := client.FetchJWTBundles(ctx)
	if err != nil {
		return found, err
	}
	verified, err := jwtsvid.ParseAndValidate(token.Marshal(), bundles, []string{audience})
	if err != nil {
		return found, err
	}
	found.JWT = verified.ID.String()
	seen, err := client.ValidateJWTSVID(ctx, token.Marshal(), audience)
	if err != nil {
		return found, err
	}
	found.API = seen.ID.String()
	return found, nil
}
