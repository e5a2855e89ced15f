import java.nio.file.Files;
import java.nio.file.Path;
import java.security.Security;
import java.util.Collection;
import org.bouncycastle.asn1.cms.Attribute;
import org.bouncycastle.asn1.ess.ESSCertIDv2;
import org.bouncycastle.asn1.ess.SigningCertificateV2;
import org.bouncycastle.asn1.pkcs.PKCSObjectIdentifiers;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cms.CMSProcessableByteArray;
import org.bouncycastle.cms.CMSSignedData;
import org.bouncycastle.cms.SignerInformation;
import org.bouncycastle.cms.jcajce.JcaSimpleSignerInfoVerifierBuilder;
import org.bouncycastle.jce.provider.BouncyCastleProvider;

/**
 * A second opinion on our signatures. Arguments come in pairs: signature file,
 * document file. One line each: "good" or "bad" and why, with the number of
 * signers and the length of the ESS certificate hash.
 */
public class VerifyDetached {
    public static void main(String[] args) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        for (int i = 0; i + 1 < args.length; i += 2) {
            try {
                System.out.println("good " + check(args[i], args[i + 1]));
            } catch (Exception e) {
                System.out.println("bad " + e);
            }
        }
    }

    static String check(String signature, String document) throws Exception {
        CMSSignedData cms = new CMSSignedData(
            new CMSProcessableByteArray(Files.readAllBytes(Path.of(document))),
            Files.readAllBytes(Path.of(signature)));
        int essLength = 0;
        for (SignerInformation signer : cms.getSignerInfos().getSigners()) {
            @SuppressWarnings("unchecked")
            Collection<X509CertificateHolder> found = cms.getCertificates().getMatches(signer.getSID());
            X509CertificateHolder cert = found.iterator().next();
            if (!signer.verify(new JcaSimpleSignerInfoVerifierBuilder().setProvider("BC").build(cert))) {
                throw new Exception("signature");
            }
            Attribute attribute = signer.getSignedAttributes().get(PKCSObjectIdentifiers.id_aa_signingCertificateV2);
            ESSCertIDv2 id = SigningCertificateV2.getInstance(attribute.getAttributeValues()[0]).getCerts()[0];
            if (!id.getIssuerSerial().getIssuer().getNames()[0].getName().equals(cert.getIssuer())) {
                throw new Exception("issuerSerial");
            }
            essLength = id.getCertHash().length;
        }
        return cms.getSignerInfos().size() + " " + essLength;
    }
}
